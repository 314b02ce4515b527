"""What runs at the same time in one program, as threads of which one runs at a time, in an order drawn by a seed.

Tasks (warps that were given a role) give way at every operation that others can notice. Copies are under way until the
scheduler lets them arrive, which it may do at once or when nothing else is left to do. No task that could go on, and no
copy under way: that is a deadlock, and is an error at once.
"""

import random
import threading


class Fault(AssertionError):
    """The kernel did what hardware forbids, or does not promise."""


class Deadlock(Fault):
    """Every task waits."""


class _Stopped(BaseException):
    """Ends the thread of a task, when another one failed."""


class Task:
    """One role. pending: its asynchronous products, oldest first."""

    def __init__(self, name, body, machine):
        self.name, self.pending = name, []
        self.error = self.condition = None
        self.finished = False
        self._machine = machine
        self._resumed, self._paused = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, args=(body,), daemon=True)
        self._thread.start()

    def _run(self, body):
        try:
            self._resumed.acquire()
            if not self._machine.stopped:
                body()
        except _Stopped:
            pass
        except Exception as error:  # noqa: BLE001 - raised again by the machine
            self.error = error
        self.finished = True
        self._paused.release()

    def resume(self):
        """Until it pauses again."""
        self._resumed.release()
        self._paused.acquire()

    def pause(self, condition):
        self.condition = condition
        self._paused.release()
        self._resumed.acquire()
        if self._machine.stopped:
            raise _Stopped

    @property
    def can_run(self):
        return not self.finished and (self.condition is None or self.condition())


class Machine:
    """One program's warps and copies. late_copies: they arrive only when every task waits."""

    def __init__(self, seed, late_copies):
        self.random = random.Random(seed)
        self.late_copies = late_copies
        self.copies = []
        self.tasks = []
        self.current = None
        self.stopped = False

    def run(self, bodies):
        """Runs roles to their ends. Deadlock, or the first error of one of them."""
        self.tasks = [Task(name, body, self) for name, body in bodies]
        try:
            while not all(task.finished for task in self.tasks):
                self._advance()
        finally:
            self.stopped = True
            for task in self.tasks:
                if not task.finished:
                    task.resume()
            self.current = None
        if self.copies:
            raise Fault("the program ended with copies under way")

    def _advance(self):
        tasks = [task for task in self.tasks if task.can_run]
        choices = tasks if tasks and self.late_copies else tasks + self.copies
        if not choices:
            waiting = ", ".join(task.name for task in self.tasks if not task.finished)
            raise Deadlock(f"{waiting} wait for each other")
        chosen = self.random.choice(choices)
        if not isinstance(chosen, Task):
            self.copies.remove(chosen)
            chosen()
            return
        self.current = chosen
        chosen.resume()
        if chosen.error is not None:
            raise chosen.error
        if chosen.finished and chosen.pending:
            raise Fault(f"{chosen.name} ended with products under way")

    def give_way(self, condition=None):
        """Lets others run, until the condition holds. Before there are roles there is nobody else."""
        if self.current is not None:
            self.current.pause(condition)
        elif condition is not None and not condition():
            raise Deadlock("the program waits before it has roles")
