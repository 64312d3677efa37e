"""Exit statuses of every command: the one place that says what they are."""

DONE, FAILED, USAGE, ALL_DIVERGED, TRANSIENT_FAILURE, INTERRUPTED = 0, 1, 2, 3, 75, 130

EXIT_CODES: dict[int, str] = {
    DONE: "done",
    FAILED: "failed: a file, the data, the machine, or a check that found something wrong",
    USAGE: "what was typed cannot be done: an unknown name, a value or a combination that is not allowed; nothing ran",
    ALL_DIVERGED: "all members of the run diverged",
    TRANSIENT_FAILURE: "failed for a reason that may go by itself, such as a full disk",
    INTERRUPTED: "stopped before the end: by Ctrl-C, SIGTERM, or the answer no",
}
