from layers.training import __main__ as command


def test_a_spawned_process_finds_what_it_is_to_run():
    # Whatever a package's __main__ defines, multiprocessing does not find in a process that it spawns.
    assert command.make.__module__ == "layers.training.weights"
