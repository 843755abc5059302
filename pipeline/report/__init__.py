"""Tables, figures and the HTML page: what a run's numbers look like to a reader."""
