"""Where artifacts are deployed to: one file a target."""
