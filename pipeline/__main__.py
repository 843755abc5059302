"""Where the program `vec2age` starts: nothing is imported before the current folder is shut out."""

from pipeline.core.shield import shield
from pipeline.core.switches import stay_out_of_home

stay_out_of_home()
shield()

from pipeline.cli.app import main

if __name__ == "__main__":
    main()
