"""What a model's tokens mean, without a model: replies, budgets, runaway repetitions, leaked contexts."""
