"""A picture of the live page, taken by Debian's Chromium: python -m tests.screenshot URL FILE [WAIT_S]

For the README; point it at the pattern line of `make demo`, never at somebody's pictures.
"""

import sys

from playwright.sync_api import sync_playwright

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def main() -> None:
    url, file = sys.argv[1:3]
    wait_s = float(sys.argv[3]) if len(sys.argv) > 3 else 8.0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        page = browser.new_page(viewport={"width": 1180, "height": 800})
        page.goto(url)
        page.wait_for_timeout(wait_s * 1000)
        page.screenshot(path=file)
        browser.close()


if __name__ == "__main__":
    main()
