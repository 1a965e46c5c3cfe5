"""The quire command: packs Linux programs of this machine and runs them on the reference kernel."""


class QuireError(Exception):
    """A fault to be told to the user in one line; status is the exit status of the command."""

    def __init__(self, text, status=125):
        super().__init__(text)
        self.status = status
