"""The page's server: on this machine alone, behind a token that only its URL knows."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import webbrowser
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import cv2

from vidpose.errors import InputError, MissingExtraError
from vidpose.io.files import DISK_FULL
from vidpose.io.outputs import THERE, check_replaceable

from .session import STATES, Conflict, ReviewSession, journal_path

try:
    from aiohttp import web
except ImportError as error:
    raise MissingExtraError("the review page", "review") from error

STATIC = Path(__file__).with_name("static")
PAGES = {"": ("index.html", "text/html"), "review.js": ("review.js", "text/javascript"),
         "review.css": ("review.css", "text/css")}  # fmt: skip
WIDEST = 1600
"""Pixels of the longer side of the pictures that the page gets."""
_CHUNK = 400
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_app(session: ReviewSession, token: str) -> web.Application:
    """The routes, all below ``/TOKEN/``."""
    loop_call = asyncio.to_thread

    async def page(request: web.Request) -> web.Response:
        name, kind = PAGES[request.match_info.get("name", "")]
        return web.Response(text=(STATIC / name).read_text(encoding="utf-8"), content_type=kind)

    async def state(request: web.Request) -> web.Response:
        return web.json_response(describe(session))

    async def poses(request: web.Request) -> web.Response:
        start = _number(request, "start", 0)
        return web.json_response(await loop_call(poses_of, session, start))

    async def frame(request: web.Request) -> web.Response:
        number = int(request.match_info["number"])
        if not number < session.frames.count:
            raise InputError(f"frame {number}: the video has {session.frames.count}")
        return web.Response(body=await loop_call(picture, session, number), content_type="image/jpeg")

    async def uncertain(request: web.Request) -> web.Response:
        return web.json_response({"frames": await loop_call(session.least_certain)})

    async def change(request: web.Request) -> web.Response:
        verb = request.match_info["verb"]
        try:
            body = await request.json()
            revision = int(body["revision"])
        except (ValueError, KeyError, TypeError):
            raise InputError("a request needs JSON with a revision") from None
        if verb == "edit":
            await loop_call(session.edit, body.get("set", []), revision)
        elif verb == "undo":
            await loop_call(session.undo, revision)
        elif verb == "redo":
            await loop_call(session.redo, revision)
        elif verb == "propagate":
            await loop_call(session.propagate)
        else:
            await loop_call(session.save)
        with session.lock:
            told = {"revision": session.revision, "output": str(session.output), **people_of(session)}
        return web.json_response(told)

    app = web.Application(middlewares=[_guard(token)])
    base = f"/{token}"
    app.add_routes(
        [
            web.get(f"{base}/", page),
            web.get(f"{base}/{{name:review\\.(?:js|css)}}", page),
            web.get(f"{base}/api/state", state),
            web.get(f"{base}/api/poses", poses),
            web.get(f"{base}/api/uncertain", uncertain),
            web.get(f"{base}/frame/{{number:\\d+}}.jpg", frame),
            web.post(f"{base}/api/{{verb:edit|undo|redo|propagate|save}}", change),
        ]
    )
    return app


def _guard(token: str) -> Any:
    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Requests from other names for this machine, or without the token, learn nothing."""
        host = request.headers.get("Host", "").rpartition(":")[0]
        given = request.path.split("/", 2)[1]
        if host not in ("127.0.0.1", "localhost") or not secrets.compare_digest(given, token):
            return web.Response(status=403, text="the URL that vidpose has printed holds the key\n")
        try:
            response = await handler(request)
        except Conflict:
            return web.json_response(
                {"error": "the labels were changed in another window", "conflict": True}, status=409
            )
        except InputError as error:
            return web.json_response({"error": str(error)}, status=400)
        except OSError as error:
            what = f"{error.filename}: " if error.filename else ""
            told = {"error": f"{what}{error.strerror or error}"}
            return web.json_response(told, status=507 if error.errno in DISK_FULL else 400)
        response.headers["Cache-Control"] = "no-store"
        return response

    return guard


def _number(request: web.Request, name: str, default: int) -> int:
    try:
        return int(request.query.get(name, default))
    except ValueError:
        raise InputError(f"{name} must be a whole number") from None


def describe(session: ReviewSession) -> dict[str, Any]:
    """What the page needs to know of the video and its people."""
    height, width = session.frames.size
    labelled = session.labels.labelled
    return {
        "name": session.frames.name,
        "frames": session.frames.count,
        "width": width,
        "height": height,
        "fps": session.labels.video.fps or 25,
        "joints": list(session.joints.joints),
        "limbs": [list(limb) for limb in session.joints.limbs],
        **people_of(session),
        "standing": session.standing,
        "states": ["none", *STATES],
        "labelled": labelled.tolist(),
        "revision": session.revision,
        "output": str(session.output),
    }


def people_of(session: ReviewSession) -> dict[str, Any]:
    """The people's numbers, in the order of the poses, and the number of the next who is added."""
    return {"tracks": session.track_ids, "next": session.next_track}


def poses_of(session: ReviewSession, start: int) -> dict[str, Any]:
    """Some hundred frames from ``start``, as lists over frames, people and joints."""
    here = slice(max(start, 0), max(start, 0) + _CHUNK)
    with session.lock:
        return {
            "start": here.start,
            "revision": session.revision,
            "points": session.points[here].astype(float).round(1).tolist(),
            "confidence": session.confidence[here].astype(float).round(3).tolist(),
            "state": session.state[here].tolist(),
            "human": session.human[here].astype(int).tolist(),
        }


def picture(session: ReviewSession, number: int) -> bytes:
    """A frame as JPEG, reduced where it is large."""
    image = cv2.cvtColor(session.frames.image(number), cv2.COLOR_RGB2BGR)
    scale = min(WIDEST / max(image.shape[:2]), 1.0)
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    coded: bytes = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()
    return coded


async def serve(session: ReviewSession, *, port: int = 0, tell: Callable[[str], None] = print) -> None:
    """Serves until SIGINT (Ctrl-C) or SIGTERM; ``tell`` gets the page's URL once it answers."""
    token = secrets.token_urlsafe(16)
    runner = web.AppRunner(make_app(session, token), access_log=None, shutdown_timeout=2)
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # on Windows Ctrl-C raises KeyboardInterrupt
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        tell(f"http://127.0.0.1:{runner.addresses[0][1]}/{token}/")
        await ended.wait()
    finally:
        await runner.cleanup()


def review(
    video: str,
    labels: Path,
    output: Path | None = None,
    *,
    weights: str = "default",
    port: int = 0,
    browser: bool = True,
    overwrite: bool = False,
) -> None:
    """Opens the page and serves it until Ctrl-C.

    Args:
        video: a video file, image folder or glob. labels: of some of its frames.
        output: for the corrected labels; ``None``: beside ``labels``, with ``.reviewed`` in its name.
        weights: of what propagates between labels (:func:`vidpose.propagate`).
        port: 0: any that is free.
        overwrite: replace an output that no review has written; the labels never.

    Raises:
        InputError: the video or the labels cannot be used, the output cannot be written or would replace
            another file, or another review of it is open.
    """
    from vidpose.infer.propagation.run import check_output

    output = output or labels.with_name(f"{labels.stem}.reviewed{labels.suffix}")
    check_output(output, [video, str(labels)], None)
    check_replaceable(output, overwrite=overwrite, inputs=[labels], objection=_objection)
    session = ReviewSession(video, labels, output, weights=weights, quiet=False)
    for remark in (*session.labels.remarks, *session.journal.remarks):
        print(f"note: {remark}")

    def tell(url: str) -> None:
        print(f"review: {url}")
        print(f"Save writes {output}; every edit is kept in {session.journal.path.name}")
        print("Ctrl-C ends it", flush=True)
        if browser:
            webbrowser.open(url)

    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(serve(session, port=port, tell=tell))
        if session.revision:
            print(f"ended; {session.revision} edits are kept in {session.journal.path}")
    except OSError as error:
        raise InputError(f"port {port}: cannot be used: {error.strerror or error}") from error
    finally:
        session.close()


def _objection(output: Path) -> str | None:
    """What speaks against replacing a file by corrected labels: a review has not written it."""
    journal = journal_path(output)
    begun = journal.is_file() and journal.stat().st_size > 0
    return None if begun else f"{THERE}, and no journal of a review, {journal.name}, beside it"


__all__ = ["describe", "make_app", "poses_of", "review", "serve"]
