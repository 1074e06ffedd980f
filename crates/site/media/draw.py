#!/usr/bin/env python3
"""Draws the sample films and covers of the member store, and has ffmpeg encode them.

Everything is drawn here from shapes; nothing is taken from anywhere. The results are dedicated to the
public domain (CC0 1.0). Needs pycairo and ffmpeg (Debian: python3-cairo, ffmpeg); neither is needed to build
or run the store, which embeds the files that lie beside this one.

    python3 draw.py              writes films/ and covers/ beside this file
"""

import math
import shutil
import subprocess
import sys
from pathlib import Path

import cairo

HERE = Path(__file__).resolve().parent
WIDTH, HEIGHT, FPS, SECONDS = 640, 360, 12, 20
SEGMENT_S = 4


def sky(c, w, h, top, bottom):
    fill = cairo.LinearGradient(0, 0, 0, h)
    fill.add_color_stop_rgb(0, *top)
    fill.add_color_stop_rgb(1, *bottom)
    c.set_source(fill)
    c.rectangle(0, 0, w, h)
    c.fill()


def disc(c, x, y, r, rgb, alpha=1.0):
    c.set_source_rgba(*rgb, alpha)
    c.arc(x, y, r, 0, 2 * math.pi)
    c.fill()


def hills(c, w, h, level, amp, shift, rgb):
    c.set_source_rgb(*rgb)
    c.move_to(0, h)
    for x in range(0, w + 9, 8):
        u = x / w * 2 * math.pi
        c.line_to(x, level + amp * math.sin(u * 1.3 + shift) + amp * 0.4 * math.sin(u * 3.1 + 2 * shift))
    c.line_to(w, h)
    c.close_path()
    c.fill()


def lighthouse(c, w, h, t):
    dusk = 0.5 + 0.5 * math.cos(math.pi * t)
    sky(c, w, h, (0.10 + 0.2 * dusk, 0.13 + 0.25 * dusk, 0.30 + 0.3 * dusk), (0.55 + 0.35 * dusk, 0.40 + 0.3 * dusk, 0.42))
    disc(c, w * 0.25, h * (0.35 + 0.5 * t), 26, (1, 0.86, 0.62))
    x, y = w * 0.68, h * 0.36
    turn = t * 10 * math.pi
    reach = math.cos(turn)
    c.set_source_rgba(1, 0.95, 0.7, 0.25 + 0.3 * (1 - dusk))
    c.move_to(x, y)
    c.line_to(x - w * reach, y - 46)
    c.line_to(x - w * reach, y + 46)
    c.close_path()
    c.fill()
    hills(c, w, h, h * 0.78, 8, t * 3, (0.16, 0.22, 0.30))
    c.set_source_rgb(0.93, 0.90, 0.85)
    c.move_to(x - 20, h * 0.82)
    c.line_to(x - 12, y + 14)
    c.line_to(x + 12, y + 14)
    c.line_to(x + 20, h * 0.82)
    c.close_path()
    c.fill()
    c.set_source_rgb(0.62, 0.20, 0.15)
    for band in (0.46, 0.60, 0.74):
        c.rectangle(x - 18, h * band, 36, 14)
        c.fill()
    c.rectangle(x - 15, y - 12, 30, 26)
    c.fill()
    disc(c, x, y, 8, (1, 0.95, 0.7))
    for n in range(3):
        hills(c, w, h, h * (0.84 + 0.06 * n), 5, t * (6 + 2 * n) * math.pi + n, (0.10, 0.20 + 0.03 * n, 0.30 + 0.05 * n))


def bread(c, w, h, t):
    sky(c, w, h, (0.95, 0.87, 0.74), (0.86, 0.70, 0.52))
    c.set_source_rgb(0.36, 0.24, 0.18)
    c.rectangle(w * 0.12, h * 0.16, w * 0.76, h * 0.62)
    c.fill()
    glow = 0.75 + 0.15 * math.sin(t * 14 * math.pi)
    c.set_source_rgb(0.95 * glow, 0.50 * glow, 0.20 * glow)
    c.rectangle(w * 0.17, h * 0.24, w * 0.66, h * 0.46)
    c.fill()
    rise = min(1.0, t * 1.4)
    for n in range(3):
        x = w * (0.30 + 0.20 * n)
        r = 34 + 18 * rise
        c.save()
        c.translate(x, h * 0.64)
        c.scale(1.2, 0.55 + 0.35 * rise)
        disc(c, 0, 0, r, (0.86 - 0.22 * rise, 0.66 - 0.26 * rise, 0.42 - 0.24 * rise))
        c.restore()
        c.set_source_rgba(0.98, 0.9, 0.75, rise)
        c.set_line_width(3)
        c.move_to(x - 20, h * 0.60)
        c.line_to(x + 20, h * 0.54)
        c.stroke()
    c.set_source_rgb(0.25, 0.18, 0.14)
    c.rectangle(0, h * 0.86, w, h * 0.14)
    c.fill()


def rivers(c, w, h, t):
    sky(c, w, h, (0.91, 0.93, 0.90), (0.80, 0.86, 0.84))
    hills(c, w, h, h * 0.42, 34, 0.8, (0.63, 0.72, 0.66))
    hills(c, w, h, h * 0.52, 26, 2.3, (0.48, 0.60, 0.53))
    for n in range(9):
        c.set_source_rgba(0.97, 0.97, 0.95, 0.75)
        c.set_line_width(5)
        y = h * (0.60 + 0.042 * n)
        c.move_to(0, y)
        for x in range(0, w + 9, 8):
            c.line_to(x, y + 5 * math.sin(x / 60 + n + t * 8 * math.pi))
        c.stroke()
    for n in range(4):
        x = (w * (0.22 * n + t * 1.2)) % (w + 80) - 40
        c.save()
        c.translate(x, h * (0.66 + 0.07 * n))
        c.rotate(0.2 * math.sin(t * 10 * math.pi + n))
        c.set_source_rgb(0.99, 0.98, 0.94)
        c.rectangle(-26, -15, 52, 30)
        c.fill()
        c.restore()


def trains(c, w, h, t):
    sky(c, w, h, (0.05, 0.06, 0.16), (0.16, 0.17, 0.32))
    for n in range(40):
        disc(c, (n * 97) % w, (n * 53) % int(h * 0.5), 1.2, (1, 1, 0.9), 0.7)
    disc(c, w * 0.8, h * 0.2, 22, (0.95, 0.93, 0.82))
    hills(c, w, h, h * 0.62, 30, t * 1.5, (0.10, 0.11, 0.22))
    hills(c, w, h, h * 0.72, 22, t * 3 + 1, (0.07, 0.08, 0.16))
    c.set_source_rgb(0.03, 0.03, 0.07)
    c.rectangle(0, h * 0.84, w, h * 0.16)
    c.fill()
    for car in range(4):
        x = w * 1.1 - t * w * 2.4 + car * 236
        c.set_source_rgb(0.42, 0.13, 0.16)
        c.rectangle(x, h * 0.64, 226, h * 0.18)
        c.fill()
        for n in range(6):
            c.set_source_rgb(1, 0.88, 0.58)
            c.rectangle(x + 14 + 35 * n, h * 0.675, 22, 22)
            c.fill()
        for n in (40, 180):
            disc(c, x + n, h * 0.83, 9, (0.15, 0.15, 0.18))


def orchard(c, w, h, t):
    sky(c, w, h, (0.84, 0.88, 0.93), (0.95, 0.95, 0.97))
    hills(c, w, h, h * 0.66, 12, 0.4, (0.90, 0.92, 0.95))
    for n in range(5):
        x, y = w * (0.12 + 0.19 * n), h * (0.80 + 0.03 * (n % 2))
        c.set_source_rgb(0.30, 0.24, 0.22)
        c.set_line_width(7)
        c.move_to(x, y)
        c.line_to(x, y - 70)
        c.stroke()
        c.set_line_width(3)
        for k in range(6):
            a = -math.pi / 2 + (k - 2.5) * 0.42 + 0.03 * math.sin(t * 8 * math.pi + n)
            c.move_to(x, y - 56)
            c.line_to(x + 60 * math.cos(a), y - 56 + 60 * math.sin(a))
            c.stroke()
        if t > 0.5:
            disc(c, x + 22, y - 88, 6 * min(1, (t - 0.5) * 4), (0.78, 0.22, 0.20))
    for n in range(60):
        x = (n * 83 + 30 * math.sin(t * 6 + n)) % w
        disc(c, x, (n * 47 + t * h * (2 + n % 3)) % h, 2.2, (1, 1, 1), 0.9)


def clock(c, w, h, t):
    sky(c, w, h, (0.30, 0.24, 0.20), (0.52, 0.42, 0.33))
    x, y = w / 2, h / 2
    disc(c, x, y, 150, (0.20, 0.14, 0.10))
    disc(c, x, y, 138, (0.96, 0.93, 0.85))
    c.set_source_rgb(0.2, 0.16, 0.14)
    for n in range(12):
        a = n * math.pi / 6
        c.set_line_width(6 if n % 3 == 0 else 3)
        c.move_to(x + 118 * math.cos(a), y + 118 * math.sin(a))
        c.line_to(x + 130 * math.cos(a), y + 130 * math.sin(a))
        c.stroke()
    stopped = min(t, 0.62) if t < 0.8 else t - 0.18
    for length, width, speed in ((70, 8, 2), (104, 5, 24)):
        a = -math.pi / 2 + stopped * speed * math.pi
        c.set_line_width(width)
        c.move_to(x, y)
        c.line_to(x + length * math.cos(a), y + length * math.sin(a))
        c.stroke()
    swing = 0.5 * math.sin(stopped * 24 * math.pi)
    disc(c, x + 150 * math.sin(swing), y + 170, 16, (0.80, 0.62, 0.28))


def harbour(c, w, h, t):
    sky(c, w, h, (0.62, 0.80, 0.90), (0.92, 0.90, 0.80))
    disc(c, w * 0.75, h * 0.26, 30, (1, 0.95, 0.78))
    hills(c, w, h, h * 0.52, 16, 1.1, (0.46, 0.58, 0.50))
    for n in range(4):
        hills(c, w, h, h * (0.60 + 0.1 * n), 4, t * (4 + n) * math.pi + n, (0.28 - 0.03 * n, 0.50 - 0.05 * n, 0.62 - 0.05 * n))
    x, y = w * (-0.1 + 1.2 * t), h * 0.66 + 4 * math.sin(t * 12 * math.pi)
    c.set_source_rgb(0.95, 0.95, 0.93)
    c.rectangle(x - 40, y - 34, 80, 22)
    c.fill()
    c.set_source_rgb(0.55, 0.18, 0.16)
    c.move_to(x - 74, y - 12)
    c.line_to(x + 74, y - 12)
    c.line_to(x + 54, y + 16)
    c.line_to(x - 58, y + 16)
    c.close_path()
    c.fill()
    for n in range(4):
        c.set_source_rgb(0.3, 0.4, 0.45)
        c.rectangle(x - 32 + 18 * n, y - 29, 11, 10)
        c.fill()


def lesson(hue):
    """A course: a line that draws a pattern, stitch by stitch."""

    def draw(c, w, h, t):
        sky(c, w, h, tuple(0.92 * x for x in hue), hue)
        c.set_source_rgb(0.99, 0.98, 0.96)
        c.set_line_width(5)
        count = int(2 + t * 150)
        for n in range(count):
            a = n * 0.42
            r = 12 + n * 0.95
            x, y = w / 2 + r * 1.5 * math.cos(a), h / 2 + r * math.sin(a)
            b = a + 0.24
            c.move_to(x, y)
            c.line_to(w / 2 + r * 1.5 * math.cos(b), h / 2 + r * math.sin(b))
            c.stroke()

    return draw


FILMS = {
    "last-lighthouse": lighthouse,
    "bread-at-four": bread,
    "paper-rivers": rivers,
    "night-trains": trains,
    "winter-orchard": orchard,
    "clockmaker": clock,
    "slow-harbour": harbour,
}
COURSES = {
    "course-sashiko": lesson((0.16, 0.24, 0.42)),
    "course-sourdough": lesson((0.58, 0.42, 0.26)),
    "course-joinery": lesson((0.45, 0.34, 0.24)),
    "course-field-sound": lesson((0.24, 0.42, 0.36)),
}
COVERS = {"disc-lighthouse": lighthouse, "disc-night-trains": trains}


def frame(draw, t, scale=1.0):
    surface = cairo.ImageSurface(cairo.FORMAT_RGB24, int(WIDTH * scale), int(HEIGHT * scale))
    c = cairo.Context(surface)
    c.scale(scale, scale)
    draw(c, WIDTH, HEIGHT, t)
    surface.flush()
    return surface


def ffmpeg(*words, feed=None):
    command = ["ffmpeg", "-y", "-hide_banner", "-loglevel", "error", *words]
    run = subprocess.Popen(command, stdin=subprocess.PIPE)
    for piece in feed or ():
        run.stdin.write(piece)
    run.stdin.close()
    if run.wait():
        sys.exit(f"ffmpeg failed: {' '.join(command)}")


def raw(width=WIDTH, height=HEIGHT, fps=FPS):
    return ["-f", "rawvideo", "-pix_fmt", "bgr0", "-s", f"{width}x{height}", "-r", str(fps), "-i", "-"]


# Nothing in a file says when or by which version it was made.
PLAIN = ["-map_metadata", "-1", "-fflags", "+bitexact", "-flags:v", "+bitexact"]


def film(name, draw, seconds):
    frames = [bytes(frame(draw, n / (FPS * seconds - 1)).get_data()) for n in range(FPS * seconds)]
    to = HERE / "films" / name
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir(parents=True)
    gop = ["-g", str(FPS * SEGMENT_S), "-keyint_min", str(FPS * SEGMENT_S), "-pix_fmt", "yuv420p"]
    h264 = ["-c:v", "libx264", "-preset", "medium", "-tune", "animation", "-crf", "30", "-profile:v", "main", "-sc_threshold", "0"]
    if name in FILMS:
        # One encoding, as segments and as one file for browsers that take no playlist.
        ffmpeg(*raw(), *h264, *gop, *PLAIN, "-f", "hls", "-hls_time", str(SEGMENT_S), "-hls_playlist_type", "vod",
               "-hls_segment_type", "fmp4", "-hls_fmp4_init_filename", "init.mp4",
               "-hls_segment_filename", str(to / "part%d.m4s"), str(to / "index.m3u8"), feed=frames)
        ffmpeg(*raw(), "-c:v", "libvpx-vp9", "-b:v", "0", "-crf", "44", "-deadline", "good", "-cpu-used", "5",
               "-row-mt", "1", *gop, *PLAIN, str(to / "film.webm"), feed=frames)
    else:
        ffmpeg(*raw(), *h264, *gop, *PLAIN, "-movflags", "+faststart", str(to / "film.mp4"), feed=frames)


def cover(name, draw):
    to = HERE / "covers"
    to.mkdir(parents=True, exist_ok=True)
    for width in (320, 640, 1280):
        drawn = frame(draw, 0.42, width / WIDTH)
        ffmpeg(*raw(drawn.get_width(), drawn.get_height(), 1), "-frames:v", "1", "-c:v", "libwebp", "-quality", "72",
               *PLAIN, str(to / f"{name}-{width}.webp"), feed=[bytes(drawn.get_data())])


if __name__ == "__main__":
    for name, draw in FILMS.items():
        film(name, draw, SECONDS)
    for name, draw in COURSES.items():
        film(name, draw, 8)
    for name, draw in (FILMS | COURSES | COVERS).items():
        cover(name, draw)
