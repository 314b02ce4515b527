"""The HTTP endpoint: POST /v1/generate, GET /v1/health, GET /v1/tasks, /openapi.json and a page of it at /docs."""

import asyncio
import base64
import time
import traceback
from collections import Counter
from typing import Any

import anyio
import anyio.to_thread
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException

from triptych.launch.serving.documentation import documentation
from triptych.launch.serving.jobs import Job, target_of
from triptych.launch.serving.media import Sample
from triptych.launch.serving.refusals import Refused
from triptych.launch.serving.requests import GenerateRequest
from triptych.launch.serving.service import Service, seconds_left
from triptych.launch.serving.worker import Stopped, Ticket

_GONE = 499  # nobody reads it; the customary number for a client that went away
_NUM_DECODING = 2  # files that are decoded at once: what bounds their memory


class _Gone(Exception):
    """The client has closed its connection."""


def build_endpoint(service: Service, answered: Counter[int]) -> FastAPI:
    """An application that answers for the service; the page is mounted on it afterwards. answered: how often with
    which status so far, which whoever stands before it counts.
    """
    app = FastAPI(title="triptych", version="1", docs_url=None, redoc_url=None)
    decoding: list[anyio.CapacityLimiter] = []  # made where the event loop runs

    @app.post("/v1/generate", responses=_RESPONSES)
    async def generate(body: GenerateRequest, request: Request) -> Response:
        """Samples of one condition: JSON, or with an Accept header of its type the one sample itself."""
        begun = time.monotonic()
        wanted = _wanted(request, body)
        service.worker.require_room()
        if not decoding:
            decoding.append(anyio.CapacityLimiter(_NUM_DECODING))
        job = await anyio.to_thread.run_sync(service.reader.read, body, limiter=decoding[0])
        seconds = min(body.timeout_seconds or service.limits.request_seconds, service.limits.request_seconds)
        ticket = service.submit(job, seconds_left(begun, seconds))
        samples = await _finished(ticket, request, seconds)
        if wanted is not None:
            return _raw(samples[0], wanted)
        return JSONResponse(_document(service, job, samples, time.monotonic() - begun))

    @app.get("/v1/health")
    def health() -> dict[str, Any]:
        """That the server lives, and how busy it is."""
        return {
            "status": "ok",
            "open": service.worker.num_open,
            "waiting_at_most": service.limits.waiting,
            "answered": {str(status): number for status, number in sorted(answered.items())},
        }

    @app.get("/v1/tasks")
    def tasks() -> dict[str, Any]:
        """What this checkpoint can do."""
        trained = service.trained
        return {"run": trained.run.name, "tokens": trained.tokens, "weights": trained.weights, "tasks": service.tasks()}

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return HTMLResponse(documentation(app.openapi(), service.limits))

    _answer_errors(app)
    return app


async def _finished(ticket: Ticket, request: Request, seconds: float) -> list[Sample]:
    """What comes of a ticket. It is given up when its time is over (504), or when nobody listens any more."""
    done = asyncio.wrap_future(ticket.future)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        left = max(0.0, ticket.deadline - time.monotonic())
        await asyncio.wait({done, gone}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if done.done():
            return done.result()
        if gone.done():
            raise _Gone
        raise Stopped
    except (Stopped, asyncio.CancelledError) as error:
        if isinstance(error, asyncio.CancelledError) and not ticket.future.cancelled():
            raise
        raise Refused(504, f"not done within {seconds:g} s; ask for fewer steps or samples, or for more time") from None
    except (Refused, _Gone):
        raise
    except Exception as error:  # noqa: BLE001 - a defect, told in full where the server was started
        traceback.print_exc()
        raise Refused(500, f"it failed on the server ({type(error).__name__}); see what it printed") from None
    finally:
        gone.cancel()
        ticket.give_up()
        done.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _wanted(request: Request, body: GenerateRequest) -> str | None:
    """The type of the raw content that is asked for, None for JSON. Refused (406) for one that cannot be given."""
    kinds = {"text/plain": "text", "image/png": "image", "audio/wav": "audio"}
    accepted = [part.partition(";")[0].strip().lower() for part in request.headers.get("accept", "*/*").split(",")]
    if any(kind in ("*/*", "application/json", "application/*", "") for kind in accepted):
        return None
    wanted = next((kind for kind in accepted if kinds.get(kind) == target_of(body.task)), None)
    if wanted is None or body.num != 1:
        what = f"{body.task} makes {target_of(body.task)}"
        raise Refused(406, f"{what}, and one sample alone can be given raw; accept application/json")
    return wanted


def _raw(sample: Sample, wanted: str) -> Response:
    return Response(sample.content, media_type=wanted)


def _document(service: Service, job: Job, samples: list[Sample], seconds: float) -> dict[str, Any]:
    trained = service.trained
    return {
        "task": job.task,
        "seed": job.seed,
        "weights": trained.weights,
        "tokens": trained.tokens,
        "seconds": round(seconds, 3),
        "samples": [_entry(sample, service.reader.sample_rate_hertz) for sample in samples],
    }


def _entry(sample: Sample, sample_rate_hertz: int) -> dict[str, Any]:
    if sample.content_type == "text/plain":
        return {"content_type": sample.content_type, "text": sample.raw}
    entry = {"content_type": sample.content_type, "base64": base64.b64encode(sample.content).decode()}
    if sample.content_type == "image/png":
        return {**entry, "height": sample.raw.shape[0], "width": sample.raw.shape[1]}
    seconds = len(sample.raw) / sample_rate_hertz
    return {**entry, "sample_rate_hertz": sample_rate_hertz, "seconds": seconds}


def _answer_errors(app: FastAPI) -> None:
    """Whatever goes wrong is one sentence in JSON."""

    @app.exception_handler(Refused)
    async def refuse(_: Request, refused: Refused) -> Response:
        after = refused.retry_after_seconds
        headers = None if after is None else {"Retry-After": str(after)}
        return JSONResponse({"error": refused.sentence}, refused.status, headers)

    @app.exception_handler(_Gone)
    async def leave(_: Request, gone: _Gone) -> Response:
        return Response(status_code=_GONE)

    @app.exception_handler(HTTPException)
    async def say(_: Request, error: HTTPException) -> Response:
        return JSONResponse({"error": f"{error.detail}; see /docs"}, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def explain(request: Request, error: RequestValidationError) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            return JSONResponse({"error": "the body is not declared as JSON; send Content-Type: application/json"}, 415)
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            what = first.get("ctx", {}).get("error", "")
            return JSONResponse({"error": f"the body is no JSON ({str(what)[:100]}); send a JSON object"}, 400)
        path = ".".join(str(part)[:40] for part in first["loc"][1:]) or "the body"
        return JSONResponse({"error": f"{path}: {_lowered(first['msg'])}; see /docs"}, 422)


def _lowered(message: str) -> str:
    return message[:1].lower() + message[1:300]


_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"description": what}
    for status, what in {
        400: "No JSON.",
        406: "What is made has another type than what is accepted.",
        408: "The body took too long to arrive.",
        413: "Larger than a limit.",
        415: "Not declared as JSON.",
        422: "It makes no sense; `error` says why, in one sentence.",
        500: "A defect of the server.",
        503: "Too many requests are waiting; Retry-After says when to ask again.",
        504: "Not done in time.",
    }.items()
}
