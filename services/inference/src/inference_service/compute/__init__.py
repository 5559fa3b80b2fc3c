"""How the networks of models are computed: the modes, the search for the best one, and what each is made of."""
