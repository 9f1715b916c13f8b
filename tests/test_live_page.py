"""The live page in a real Chromium, whose camera is a video of synthetic faces, with the real server."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from face_mask import classifier
from face_mask.cropping import intersection_over_union
from tests import live_workspace
from tools.live_server import serving

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next((path for name in NAMES if (path := shutil.which(name))), None)
WAIT = 20_000  # ms; the machine may be busy
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
Page = Any  # Playwright is only imported if there is a Chromium

if CHROMIUM is None and os.environ.get("FACE_MASK_NEEDS_CHROMIUM") != "1":
    pytest.skip("Chromium is missing: run `apt-get install chromium`", allow_module_level=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = live_workspace.workspace(tmp_path_factory.mktemp("live"))
    scene, empty = live_workspace.scene(), live_workspace.empty_scene()
    live_workspace.write_video(folder / "camera.mjpeg", [scene] * 10)
    live_workspace.write_video(folder / "scene.webm", [scene] * 90)
    live_workspace.write_video(folder / "empty.webm", [empty] * 60)
    live_workspace.write_video(folder / "short.webm", [scene] * 12)
    (folder / "broken.mp4").write_bytes(b"not a video")
    return folder


@pytest.fixture(scope="module")
def playwright() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    assert CHROMIUM, "FACE_MASK_NEEDS_CHROMIUM=1, but Chromium is missing: run `apt-get install chromium`"
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="module")
def browser(playwright: Any, folder: Path) -> Iterator[Any]:
    """A browser whose camera shows the scene; each test sets the camera permission."""
    camera = ("--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={folder / 'camera.mjpeg'}")
    running = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *camera])
    yield running
    running.close()


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with serving(folder=folder) as running:
        yield running


@pytest.fixture(autouse=True)
def close_contexts(browser: Any) -> Iterator[None]:
    """A test that fails must not leave connections open, as their number is limited."""
    yield
    for context in browser.contexts:
        context.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Page]:
    page = open_page(browser, address, permissions=["camera"])
    yield page
    errors = page.errors
    page.context.close()
    assert errors == []


def open_page(browser: Any, address: str, script: str = "", **options: Any) -> Page:
    """Open the page in a context of its own; the errors that it reports are collected in `errors`."""
    context = browser.new_context(**options)
    page = context.new_page()
    page.set_default_timeout(WAIT)
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("console", lambda entry: page.errors.append(entry.text) if entry.type == "error" else None)
    # Chromium ignores a click that opens a file chooser before Playwright has told it to report them, which
    # expect_file_chooser does not wait for; this listener has it told so from the start.
    page.on("filechooser", lambda chooser: None)
    if script:
        page.add_init_script(script)
    page.goto(address)
    page.wait_for_selector("#connection[data-state=open]")
    return page


def until(page: Page, condition: str) -> None:
    """Wait until a JavaScript expression is true; wait_for_function needs eval, which the page's policy forbids."""
    end = time.monotonic() + WAIT / 1000
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(50)


def wait_for_state(page: Page, name: str) -> None:
    page.wait_for_selector(f"body[data-state={name}]")


def final_frames(page: Page) -> str:
    """The number of frames once those in flight at a pause have been answered."""
    before = None
    while (now := page.inner_text("#frames")) != before:
        before = now
        page.wait_for_timeout(800)
    return now


def shown_faces(page: Page) -> list[dict[str, Any]]:
    """The faces listed on the page, from the left."""
    rows = page.eval_on_selector_all("#faces li", "rows => rows.map(row => ({...row.dataset, text: row.innerText}))")
    for row in rows:
        row["box"] = [float(edge) for edge in row["box"].split()]
    return sorted(rows, key=lambda row: row["box"][0])


def wait_for_faces(page: Page, count: int = 3) -> list[dict[str, Any]]:
    until(page, f"document.querySelectorAll('#faces li:not(.missed)').length === {count}")
    return shown_faces(page)


def wait_for_label(page: Page, number: str, label: str) -> None:
    """Wait until the face of this number has the label."""
    until(page, f"document.querySelector('#faces li[data-number=\"{number}\"]')?.dataset.class === '{label}'")


def assert_expected(
    faces: list[dict[str, Any]], expected: list[classifier.Prediction], least_iou: float = 0.85
) -> None:
    """Boxes and probabilities agree with FaceClassifier, up to another JPEG encoding by the browser."""
    assert len(faces) == len(expected)
    boxes = np.array([face["box"] for face in faces]), np.array([prediction.box for prediction in expected])
    assert np.diag(intersection_over_union(*boxes)).min() > least_iou
    for face, prediction in zip(faces, expected, strict=True):
        assert float(face["probability"]) == pytest.approx(prediction.with_mask, abs=0.08)


def overlay_pixels(page: Page, box: list[float], mirrored: bool = False) -> np.ndarray:
    """The overlay's pixels, RGBA, across the left edge of a box, which is in pixels of the frame."""
    left, top, right, bottom = box
    middle = (top + bottom) / 2
    x = live_workspace.SIZE[0] - right if mirrored else left
    script = """([x, y, width]) => {
        const canvas = document.getElementById("overlay"), scale = canvas.width / width;
        const context = canvas.getContext("2d");
        return Array.from(context.getImageData(Math.round(x * scale) - 4, Math.round(y * scale), 9, 1).data);
    }"""
    return np.array(page.evaluate(script, [x, middle, live_workspace.SIZE[0]])).reshape(-1, 4)


def test_boxes_and_labels_of_the_camera_agree_with_the_classifier(page: Page, folder: Path) -> None:
    wait_for_state(page, "running")  # if the camera is allowed, it opens at once
    faces = wait_for_faces(page)
    assert_expected(faces, live_workspace.expected(live_workspace.scene(), folder))
    assert [face["class"] for face in faces] == live_workspace.LABELS
    for face, label in zip(faces, ("with mask", "unsure", "without mask"), strict=True):
        assert re.fullmatch(rf"#\d\s+{label}\s+(\d\d% mask|\d\d%|>99%)", face["text"])
    assert [page.inner_text(f"#now-{label}") for label in live_workspace.LABELS] == ["1", "1", "1"]

    # A front camera is mirrored, and so is the overlay, until mirroring is switched off.
    assert page.get_attribute("#mirror", "aria-pressed") == "true"
    for mirrored in (True, False):
        until(page, "document.querySelectorAll('#faces li:not(.missed)').length === 3")
        for face, colour in ((faces[0], (47, 224, 187)), (faces[2], (255, 131, 80))):
            drawn = overlay_pixels(page, face["box"], mirrored)
            assert np.abs(drawn[:, :3] - colour).sum(axis=1).min() < 30, (mirrored, drawn)
            assert not overlay_pixels(page, face["box"], not mirrored)[:, 3].any()
        page.click("#mirror")
    assert page.get_attribute("#mirror", "aria-pressed") == "true"


def test_metrics_are_updated_saved_and_reset(page: Page) -> None:
    wait_for_faces(page)
    until(page, "Number(document.getElementById('frames').textContent) >= 10")
    assert re.fullmatch(r"(\d+ frames/s · )?\d+ ms", page.inner_text("#speed"))
    assert re.fullmatch(r"\d+ · \d+ · \d+", page.inner_text("#latency"))
    page.keyboard.press("Space")
    wait_for_state(page, "paused")
    final_frames(page)
    with page.expect_download() as download:
        page.click("#save")
    [saved] = json.loads(Path(download.value.path()).read_text())["session"]
    assert saved["model"] == "mobilenet"
    assert saved["frames"] == int(page.inner_text("#frames"))
    assert saved["faces"] == saved["faces_with_mask"] + saved["faces_without_mask"] >= 30
    assert saved["distinct_faces"] == 3
    assert page.inner_text("#mean_confidence_with_mask") == f"{saved['mean_confidence_with_mask']:.2%}"
    assert saved["people_with_mask"] + saved["people_without_mask"] == 3 and "proportion_corrected" not in saved
    assert page.inner_text("#proportion") == f"{100 * saved['proportion_with_mask']:.0f}%"
    assert "Uncorrected" in str(page.get_attribute("#proportion-name", "title"))
    corrected = {f"proportion_{key}": i / 100 for i, key in ((70, "with_mask"), (76, "corrected"))}
    corrected |= {"proportion_corrected_low": 0.6549, "proportion_corrected_high": 0.9}
    page.evaluate("metrics => import('/page/panel.js').then((panel) => panel.showMetrics(metrics))", corrected)
    assert page.inner_text("#proportion") == "76% (65–90)"
    assert "70% as predicted" in str(page.get_attribute("#proportion-name", "title"))
    page.keyboard.press("r")
    until(page, "Number(document.getElementById('frames').textContent) < 3")


def test_pause_and_resume(page: Page) -> None:
    wait_for_faces(page)
    page.click("#pause")
    wait_for_state(page, "paused")
    assert page.inner_text("#pause").strip() == "Resume"
    frames = final_frames(page)
    assert len(shown_faces(page)) == 3  # they stay
    page.click("#pause")
    wait_for_state(page, "running")
    until(page, f"Number(document.getElementById('frames').textContent) > {frames}")


def test_the_model_is_switched_by_mouse_and_keyboard(page: Page, folder: Path) -> None:
    numbers = [face["number"] for face in wait_for_faces(page)]
    page.click("text=CNN")
    wait_for_label(page, numbers[0], "without_mask")
    faces = wait_for_faces(page)
    assert_expected(faces, live_workspace.expected(live_workspace.scene(), folder, "cnn"))
    assert [face["class"] for face in faces] == live_workspace.LABELS[::-1]
    assert [face["number"] for face in faces] == numbers
    page.keyboard.press("2")
    page.wait_for_selector("input[value=mobilenet]:checked", state="attached")
    wait_for_label(page, numbers[0], "with_mask")


def test_keys_that_belong_to_a_button_or_the_browser_do_nothing_else(page: Page) -> None:
    wait_for_faces(page)
    page.focus("#mirror")
    page.keyboard.press("Space")
    wait_for_state(page, "running")
    assert page.get_attribute("#mirror", "aria-pressed") == "false"
    page.keyboard.press("Control+m")
    page.keyboard.press("x")
    assert page.get_attribute("#mirror", "aria-pressed") == "false"
    page.keyboard.press("m")
    assert page.get_attribute("#mirror", "aria-pressed") == "true"


def test_a_video_is_played_to_its_end(browser: Any, address: str, folder: Path) -> None:
    page = open_page(browser, address)
    assert page.inner_text("#start h2") == "Who is wearing a mask?"
    page.set_input_files("#file", folder / "scene.webm")
    faces = wait_for_faces(page)
    assert_expected(faces, live_workspace.expected(live_workspace.scene(), folder))
    assert page.get_attribute("#mirror", "aria-pressed") == "false"
    page.set_input_files("#file", folder / "empty.webm")
    page.wait_for_selector("#no-face:visible")
    assert page.inner_text("#no-face") == "No face detected"
    assert shown_faces(page) == []
    page.set_input_files("#file", folder / "short.webm")
    page.wait_for_selector("text=End of video")
    wait_for_state(page, "paused")
    page.keyboard.press("Space")  # again
    page.wait_for_selector("text=End of video")
    page.set_input_files("#file", folder / "broken.mp4")
    page.wait_for_selector("text=This video cannot be played")
    assert "broken.mp4" in page.inner_text("#problem-text")
    page.set_input_files("#file", folder / "scene.webm")
    wait_for_faces(page)
    page.context.close()


def test_a_picture_is_classified_without_a_camera(browser: Any, address: str, folder: Path) -> None:
    scene = live_workspace.scene()
    scene.save(folder / "scene.png")
    live_workspace.empty_scene().save(folder / "empty.webp")
    page = open_page(browser, address)
    page.click("#start [data-action=camera]")  # which is denied
    wait_for_state(page, "problem")
    with page.expect_file_chooser() as chooser:
        page.click("#problem [data-action=picture]")
    chooser.value.set_files(folder / "scene.png")
    wait_for_state(page, "picture")
    faces = wait_for_faces(page)
    assert_expected(faces, live_workspace.expected(scene, folder, picture=True), least_iou=0.75)
    assert [face["class"] for face in faces] == live_workspace.LABELS
    for face, colour in ((faces[0], (47, 224, 187)), (faces[2], (255, 131, 80))):
        assert np.abs(overlay_pixels(page, face["box"])[:, :3] - colour).sum(axis=1).min() < 30
    summary = "1 with mask, 1 without mask, 1 unsure"
    assert page.inner_text("#announcement") == summary
    assert page.get_attribute("#picture", "aria-label") == f"scene.png: {summary}"
    assert page.is_disabled("#pause") and page.inner_text("#frames") == "1"

    page.keyboard.press("1")  # another model classifies it anew, and other faces are not those of the picture before
    wait_for_label(page, str(int(faces[0]["number"]) + 3), "without_mask")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("p")
    chooser.value.set_files(folder / "empty.webp")
    page.wait_for_selector("#no-face:visible")
    assert shown_faces(page) == [] and page.errors == []
    page.context.grant_permissions(["camera"])
    page.keyboard.press("c")
    wait_for_state(page, "running")
    wait_for_faces(page)
    assert page.is_hidden("#picture")
    page.context.close()


def test_a_picture_is_dropped_or_pasted_and_what_is_none_is_one_line(browser: Any, address: str, folder: Path) -> None:
    script = """async ([type, name, encoded, size]) => {
        const bytes = encoded ? Uint8Array.from(atob(encoded), c => c.charCodeAt(0)) : new Uint8Array(size);
        const data = new DataTransfer();
        data.items.add(new File([bytes], name, {type: name.endsWith("mkv") ? "" : "image/png"}));
        const options = {bubbles: true, cancelable: true};
        const event = type === "paste"
            ? new ClipboardEvent(type, {...options, clipboardData: data})
            : new DragEvent(type, {...options, dataTransfer: data});
        return document.body.dispatchEvent(event);
    }"""
    # The server answers the first picture with "dropped", as it does if a newer frame arrives: it is sent again.
    drop_first = """const send = WebSocket.prototype.send;
    WebSocket.prototype.send = function (data) {
        if (typeof data === "string" || window.dropped) return send.call(this, data);
        window.dropped = true;
        const frame = new DataView(data.buffer).getUint32(0);
        setTimeout(() => this.onmessage({data: JSON.stringify({type: "dropped", frame})}));
    };"""
    page = open_page(browser, address, drop_first)

    def send(kind: str, name: str, content: bytes = b"", size: int = 0) -> None:
        browser_acts = page.evaluate(script, [kind, name, base64.b64encode(content).decode(), size])
        assert not browser_acts or kind == "paste"  # it would leave the page for a file that is dropped

    scene = live_workspace.jpeg(live_workspace.scene())
    send("dragover", "scene.jpg")
    assert page.is_visible("#drop")
    send("drop", "scene.jpg", scene)
    assert page.is_hidden("#drop")
    wait_for_faces(page)
    assert page.evaluate("window.dropped") is True
    for name, content, size, reason in (
        ("notes.txt", b"hello", 0, "notes.txt is not an image"),
        ("cut.png", b"\x89PNG\r\n\x1a\n", 0, "cut.png is not an image"),
        ("big.png", b"", (64 << 20) + 1, "big.png is larger than 64 MB."),
    ):
        send("drop", name, content, size)
        page.wait_for_selector(f"text={reason}")
        assert page.inner_text("#problem-title") == "This picture cannot be opened" and shown_faces(page) == []
    send("paste", "image.png", scene)
    wait_for_faces(page)
    send("drop", "short.mkv", (folder / "short.webm").read_bytes())
    page.wait_for_selector("text=End of video")
    assert page.is_hidden("#picture") and page.errors == []
    page.context.close()


def test_a_camera_that_is_denied_and_then_allowed(browser: Any, address: str) -> None:
    page = open_page(browser, address)
    page.click("#start [data-action=camera]")
    wait_for_state(page, "problem")
    assert page.inner_text("#problem-title") == "Camera access was denied"
    page.context.grant_permissions(["camera"])
    page.click("#retry")
    wait_for_state(page, "running")
    wait_for_faces(page)
    assert page.is_hidden("#problem")
    page.context.close()


def test_no_camera(playwright: Any, address: str, folder: Path) -> None:
    running = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, "--use-fake-ui-for-media-stream"])
    page = open_page(running, address)
    page.keyboard.press("c")
    page.wait_for_selector("text=No camera available")
    page.set_input_files("#file", folder / "scene.webm")  # the alternative
    wait_for_faces(page)
    running.close()


@pytest.mark.parametrize(
    ("name", "title"), [("NotReadableError", "The camera is in use"), ("TypeError", "The camera cannot be started")]
)
def test_a_camera_that_does_not_start(browser: Any, address: str, name: str, title: str) -> None:
    """No flag of Chromium causes these errors, so getUserMedia is replaced."""
    script = f"navigator.mediaDevices.getUserMedia = async () => {{ throw new DOMException('why', '{name}'); }}"
    page = open_page(browser, address, script)
    page.keyboard.press("c")
    page.wait_for_selector(f"text={title}")
    page.context.close()


def test_a_camera_that_is_unplugged(page: Page) -> None:
    wait_for_faces(page)
    page.evaluate("document.getElementById('video').srcObject.getVideoTracks()[0].dispatchEvent(new Event('ended'))")
    page.wait_for_selector("text=The camera was disconnected")
    assert shown_faces(page) == []
    page.click("#retry")
    wait_for_faces(page)


def test_an_address_that_is_not_secure(playwright: Any, folder: Path) -> None:
    host = socket.gethostname()
    rules = f"--host-resolver-rules=MAP {host} 127.0.0.1"
    running = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, rules])
    with serving("--host", "0.0.0.0", folder=folder) as address:
        page = open_page(running, address.replace("127.0.0.1", host))
        assert not page.evaluate("isSecureContext")
        page.keyboard.press("c")
        page.wait_for_selector("text=The camera needs a secure connection")
        assert "ssh -L" in page.inner_text("#problem-text")
        page.set_input_files("#file", folder / "scene.webm")
        wait_for_faces(page)
    running.close()


def test_the_page_reconnects_to_a_restarted_server(browser: Any, folder: Path) -> None:
    with serving(folder=folder) as address:
        page = open_page(browser, address, permissions=["camera"])
        wait_for_faces(page)
        page.keyboard.press("1")
        page.wait_for_selector("input[value=cnn]:checked", state="attached")
    page.wait_for_selector("#offline:visible")
    assert "The server does not respond. Reconnecting in" in page.inner_text("#offline")
    assert page.inner_text("#connection") == "disconnected"
    assert page.is_disabled("#models input[value=cnn]")
    assert shown_faces(page) == []  # no outdated faces
    with serving(folder=folder, port=int(address.rsplit(":", 1)[1].strip("/"))):
        page.wait_for_selector("#connection[data-state=open]")
        faces = wait_for_faces(page)
        assert page.is_hidden("#offline")
        page.wait_for_selector("input[value=cnn]:checked", state="attached")  # as selected before
        wait_for_label(page, faces[0]["number"], "without_mask")
        assert len(faces) == 3
    page.context.close()


def test_an_idle_page_reconnects_when_it_is_used(browser: Any, address: str) -> None:
    context = browser.new_context(permissions=["camera"])
    page = context.new_page()
    page.set_default_timeout(WAIT)
    sockets: list[Any] = []

    def intercept(route: Any) -> None:
        sockets.append(route)
        route.connect_to_server()

    page.route_web_socket(re.compile("/frames$"), intercept)
    page.goto(address)
    wait_for_faces(page)
    page.click("#pause")
    wait_for_state(page, "paused")
    frames = final_frames(page)
    sockets[0].close(code=4000, reason="idle")
    page.wait_for_selector("text=Disconnected after several minutes of inactivity")
    page.wait_for_timeout(1500)
    assert len(sockets) == 1  # it does not reconnect by itself
    assert page.inner_text("#frames") == frames
    page.click("#pause")
    page.wait_for_selector("text=Reconnected: the metrics start from zero")
    wait_for_faces(page)
    until(page, "Number(document.getElementById('frames').textContent) > 1")
    with page.expect_download() as download:
        page.keyboard.press("s")
    saved = json.loads(Path(download.value.path()).read_text())
    assert saved["previous"][0][0]["frames"] == int(frames)
    assert saved["session"][0]["frames"] >= 1
    context.close()


def test_the_page_reports_the_connection_limit(browser: Any, address: str) -> None:
    from face_mask.live.server import MAX_CONNECTIONS

    pages = [open_page(browser, address) for _ in range(MAX_CONNECTIONS)]
    context = browser.new_context()
    one_more = context.new_page()
    one_more.goto(address)
    one_more.wait_for_selector("text=The server accepts no more pages", timeout=WAIT)
    pages[0].context.close()
    one_more.wait_for_selector("#connection[data-state=open]", timeout=WAIT)
    for each in [*pages[1:], one_more]:
        each.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone(browser: Any, address: str, scheme: str) -> None:
    options: dict[str, Any] = {"viewport": {"width": 375, "height": 667}, "is_mobile": True, "has_touch": True}
    page = open_page(browser, address, permissions=["camera"], color_scheme=scheme, **options)
    wait_for_faces(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 375  # no horizontal scrolling
    for action in ("camera", "picture"):
        assert page.query_selector(f".controls [data-action={action}]").bounding_box()["height"] >= 44
    for selector in ("#pause", "#mirror", ".controls [data-action=camera]", ".models label span"):
        box = page.query_selector(selector).bounding_box()
        assert box["height"] >= 44, selector
        assert box["y"] + box["height"] <= 667  # visible without scrolling
    shot = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("L"))
    corner = float(shot[2:6, 2:6].mean())
    assert corner > 220 if scheme == "light" else corner < 40
    page.context.close()


def test_all_controls_have_accessible_names(page: Page) -> None:
    wait_for_faces(page)
    unnamed = page.evaluate("""() => [...document.querySelectorAll("button, input, select, video")]
        .filter(element => !(
            element.ariaLabel || element.innerText?.trim() || element.labels?.[0]?.textContent.trim() || element.hidden
        ))
        .map(element => element.outerHTML)""")
    assert [html for html in unnamed if "hidden" not in html and 'id="camera"' not in html] == []
    until(page, "document.getElementById('announcement').textContent !== ''")
    assert page.inner_text("#announcement") in ("1 with mask, 1 without mask, 1 unsure", "no face detected")
    text = page.inner_text("footer")
    assert "No image is stored or sent anywhere else" in text
    assert "Space" in text
