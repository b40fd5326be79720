"""The engines, one module per recogniser, and the choice between them. Importing this package imports none of them."""
