"""Make the tutorial's pictures from a real run of it.

    python docs/img/make_tutorial.py FOLDER [http://127.0.0.1:8480]

FOLDER is where the tutorial was followed, with `sheet.png` and `report.html`; the address is that
of its HMI, which must run.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import cv2

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from tests.browser import Browser  # noqa: E402

SHEET_WIDTH_PX = 1000
SHEET_HEIGHT_PX = 800
REPORT_PX = (1000, 900)
HMI_PX = (1280, 800)


def main() -> None:
    """Write the pictures beside this script."""
    folder = Path(sys.argv[1])
    hmi = sys.argv[2] if sys.argv[2:] else "http://127.0.0.1:8480"
    sheet = cv2.imread(str(folder / "sheet.png"))
    height = round(sheet.shape[0] * SHEET_WIDTH_PX / sheet.shape[1])
    sheet = cv2.resize(sheet, (SHEET_WIDTH_PX, height), interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(HERE / "tutorial_sheet.jpg"), sheet[:SHEET_HEIGHT_PX])
    with tempfile.TemporaryDirectory() as profile:
        browser = Browser(Path(profile))
        try:
            browser.size(*REPORT_PX, light=True)
            browser.open((folder / "report.html").resolve().as_uri())
            browser.wait("document.readyState === 'complete'")
            browser.shot(HERE / "tutorial_report.png")
            browser.size(*HMI_PX)
            browser.open(hmi)
            browser.wait("document.body.innerText.includes('INSPECTING')")
            browser.wait("document.body.innerText.includes('dent')")
            browser.shot(HERE / "tutorial_hmi.png")
        finally:
            browser.close()


if __name__ == "__main__":
    main()
