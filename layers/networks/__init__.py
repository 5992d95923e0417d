"""Reference networks: one file each, in the form that `exportkit export` takes."""
