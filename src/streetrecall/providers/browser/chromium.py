"""Finding Chromium, and its command line."""

from __future__ import annotations

import os
import shutil
from urllib.parse import urlsplit

from streetrecall.errors import UserError

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")

# Chromium fetches nothing but the viewer page, and draws it at full speed although no window is visible.
FLAGS = (
    "--headless=new",
    "--hide-scrollbars",
    "--mute-audio",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-pings",
    "--password-store=basic",
    "--use-mock-keychain",
    "--force-color-profile=srgb",
    "--force-device-scale-factor=1",
    "--disable-background-networking",
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-breakpad",
    "--disable-client-side-phishing-detection",
    "--disable-component-update",
    "--disable-crash-reporter",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--disable-domain-reliability",
    "--disable-extensions",
    "--disable-renderer-backgrounding",
    "--disable-sync",
    "--metrics-recording-only",
    "--disable-frame-rate-limit",
    "--disable-features=AutofillServerCommunication,CertificateTransparencyComponentUpdater,MediaRouter,"
    "NetworkTimeServiceQuerying,OptimizationHints,OptimizationGuideModelDownloading,Translate",
)


def find_browser() -> str | None:
    """Path of Chromium or Chrome: ``STREETRECALL_CHROMIUM``, or else the first one on PATH."""
    named = os.environ.get("STREETRECALL_CHROMIUM")
    if named:
        if not shutil.which(named):
            raise UserError(f"STREETRECALL_CHROMIUM: there is no program {named}")
        return shutil.which(named)
    return next((path for name in PROGRAMS if (path := shutil.which(name))), None)


def arguments(profile: str, viewer: str, proxy: str | None, isolated: bool) -> list[str]:
    """Chromium's command line for a viewer page at the URL ``viewer``, through ``proxy`` if there is one.

    Args:
        profile: folder of the browser's profile.
        isolated: the page is on loopback and needs no other host. Then Chromium can reach and look up no other host,
            whatever its own services try. Otherwise a page on loopback is fetched without the proxy, and the page's
            own requests go through it.
    """
    flags = [*FLAGS, f"--user-data-dir={profile}"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        flags.append("--no-sandbox")  # as root Chromium starts in no other way
    reached = [urlsplit(viewer).hostname]
    if proxy is not None:
        parts = urlsplit(proxy)
        if parts.username:
            raise UserError(
                "STREETRECALL_PROXIES: Chromium accepts no proxy with a password; use one that knows this machine"
            )
        reached.append(parts.hostname)
        flags.append(f"--proxy-server={proxy}")
        if isolated:
            # The later rule wins: loopback goes through the proxy; other hosts are asked directly, and so not found.
            flags.append("--proxy-bypass-list=*;<-loopback>")
    elif isolated:
        flags.append("--no-proxy-server")
    if isolated:
        flags.append("--host-resolver-rules=MAP * ~NOTFOUND, " + ", ".join(f"EXCLUDE {host}" for host in reached))
    return flags
