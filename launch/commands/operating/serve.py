"""`triptych serve`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from triptych.launch.run_directory import RunDirectory
from triptych.launch.serving.limits import limits_of


def serve(
    run_dir: Path,
    *,
    host: str,
    port: int,
    weights: str,
    seed: int,
    limits: Sequence[str],
    settings: Sequence[str],
) -> None:
    """Serve a trained run as a page and an HTTP endpoint until Ctrl-C or SIGTERM. ValueError for an address that is
    taken, a limit that does not exist, a run that cannot be loaded, or without the library that the page needs.
    """
    if not 0 <= seed < 2**64:
        raise ValueError(f"--seed {seed} is outside 0..2**64-1; give another")
    bounds = limits_of(limits)
    from triptych.launch.serving.web.process import bound_socket, is_local, require_library, serve_until_stopped, url_of

    require_library()
    with bound_socket(host, port) as bound:
        from triptych.launch.serving.service import Service
        from triptych.launch.trained import open_trained

        with open_trained(RunDirectory(folder=run_dir), settings, seed, weights) as trained:
            service = Service(trained, bounds, seed)
            url = url_of(bound)
            if not is_local(bound):
                print(f"triptych: warning: whoever reaches {url} may use it: there is no password", file=sys.stderr)

            def ready() -> None:
                what = f"{trained.run.name} at {trained.tokens:,} tokens, {trained.weights}"
                print(f"{what}: page {url}/ , endpoint {url}/v1/generate , its description {url}/docs", flush=True)

            serve_until_stopped(service, bound, ready)
            print(f"stopped; {service.worker.num_done} requests were worked on")
