"""What `bench.run` found, as a page with plots: medians, ratios, goals. Nothing here measures.

python -m bench.page            # writes bench/results.md and plots from bench/results.jsonl
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bench import plots, profiles
from bench.compared import NOTHING, Seconds, middle, ratio, seconds, text, verdict
from bench.goals import Met, all_met
from bench.growth import growth
from bench.peers import BELIEVE_SEC, LIMITS, OURS, PEERS
from bench.profiles import Profile
from bench.results import Row, Rows, Setting, by_distance, latest, load

RESULTS = Path(__file__).with_name("results.jsonl")
PROFILES = Path(__file__).with_name("profiles.jsonl")
LEAST_SEC = 15  # a peer gets at least this, however fast we were


def write_page(results: Path) -> Path:
    """Beside the results, as are the plots. The page's path."""
    records, settings = load(results)
    chosen = latest(records)
    found = by_distance(chosen)
    made = plots.draw(found, results)
    used = [settings[name] for name in dict.fromkeys(one.run for one in chosen)]
    path = results.with_suffix(".md")
    profiled = profiles.load(results.with_name(PROFILES.name))
    path.write_text(page(found, used, [picture.name for picture in made], profiled))
    return path


def page(
    found: Mapping[float, Rows],
    settings: Sequence[Setting],
    pictures: Sequence[str],
    profiled: Sequence[Profile] = (),
) -> str:
    parts = [HEAD.format(distances=" and of ".join(f"{ms:g}" for ms in found))]
    parts += [f"![{Path(name).stem}]({name})" for name in pictures]
    parts += ["## The goals", "\n".join(goal_table(list(all_met(found))))]
    for rtt_ms, rows in found.items():
        parts += [f"## {rtt_ms:g} ms", "\n".join(table(rows, present(rows)))]
    parts += ["## What stands in the way", WAY]
    if profiled:
        parts += ["### Whose the processor time is", PROFILED]
        parts += ["\n".join(profiles.table(profiled))]
    parts += ["## How cost grows", growth(found)]
    parts += ["## How it is measured", HOW, "\n".join(run_table(settings))]
    return "\n\n".join(parts) + "\n"


def present(rows: Rows) -> list[str]:
    """The peers that were there, in the order we name them."""
    return [peer for peer in PEERS if any(peer in row.clients for row in rows.values())]


# --- tables -----------------------------------------------------------------------------------


def table(rows: Rows, peers: Sequence[str]) -> Iterator[str]:
    """A line for each row; in a cell with several figures, ours is the first."""
    everybody = ", ".join((OURS, *peers))
    others = [f"{peer} / ours" for peer in peers]
    costs = ["limits, seconds", "requests", "client's CPU s", "peak RSS MiB"]
    heads = ["row", "turns", f"seconds: {everybody}", *others, *costs, "ahead?"]
    yield line(heads)
    yield line(["---", "---:", "---", *["---:"] * len(peers), *["---"] * 5])
    for name, row in rows.items():
        yield line([name, *cells(row, peers)])


def cells(row: Row, peers: Sequence[str]) -> Iterator[str]:
    """One row, but for its name."""
    everybody = [row.clients.get(client, ()) for client in (OURS, *peers)]
    ours = seconds(everybody[0])
    ratios = [ratio(seconds(runs), ours) for runs in everybody[1:]]
    yield str(len(everybody[0]))
    yield ", ".join(text(seconds(runs)) for runs in everybody)
    yield from (NOTHING if times is None else f"**{times}**" for times in ratios)
    yield limits(row)
    yield ", ".join(middle([run.requests for run in runs], 0) for runs in everybody)
    yield ", ".join(middle([run.cpu_sec for run in runs], 2) for runs in everybody)
    yield ", ".join(middle([run.peak_mib for run in runs], 0) for runs in everybody)
    yield verdict(ratios, ours)


def limits(row: Row) -> str:
    """What nobody can be faster than."""
    known: dict[str, Seconds | None] = {
        name: seconds(row.clients[name]) for name in LIMITS if name in row.clients
    }
    return ", ".join(f"{name} {text(sec)}" for name, sec in known.items()) or NOTHING


def goal_table(lines: Sequence[Met]) -> Iterator[str]:
    """What is not reached comes first."""
    said = {True: "met", False: "**not met**", None: "unknown"}
    count = sum(each.met is True for each in lines)
    yield f"{count} of {len(lines)} are met."
    yield ""
    yield line(["goal", "row", "ms", "found", "met?", "slower limit"])
    yield line(["---", "---", "---:", "---:", "---", "---:"])
    order = {False: 0, None: 1, True: 2}
    for each in sorted(lines, key=lambda one: order[one.met]):
        found = [f"{each.rtt_ms:g}", each.found, said[each.met], each.bare]
        yield line([each.goal, each.row, *found])


def run_table(settings: Sequence[Setting]) -> Iterator[str]:
    yield line(["run", "load when it began", "caches dropped", "our options", "versions"])
    yield line(["---", "---:", "---", "---", "---"])
    for one in settings:
        versions = ", ".join(f"{name} {number}" for name, number in one.versions.items())
        where = f"{versions}; Python {one.python}; {one.processors} processors"
        dropped = "yes" if one.caches_dropped else "**no**"
        options = " ".join(one.options) or NOTHING
        yield line([one.run, f"{one.load:.1f}", dropped, options, where])


def line(entries: Sequence[str]) -> str:
    return f"| {' | '.join(entries)} |"


HEAD = """# Beside the peers

Mounts of one bucket of the same real gateway, at a round trip of {distances} ms. `make bench`
measures, and `python -m bench.page` writes this page from `results.jsonl`."""

WAY = """Profiles of the client (`py-spy`, `perf sched`), the gateway's log, and the limits say
this of the goals that are not met. Client, programs and gateway share two processors here.

- **A slow machine** makes these ratios worse where a peer waits for the server, or for its own
  5 s, and we for a processor. For a small file at 0 ms awscrt alone took 0.36 to 0.41 ms of it
  here, and 0.19 ms in an earlier run, in which `cp -r` and `rsync` of 200 files at 20 ms were 1.3
  to 1.7 times as far ahead as here.
- **Durable** rows of small files have `--upload-delay` in them, 0.1 s: so long may what was closed
  be renamed or removed again before it is sent. Large files, of which parts are sent while they are
  written, do not wait. While a program closes file after file it gets the processor first, for at
  most 5 s, which rclone waits in any case: what is gained until it returns (`rsync`, `tar`, many
  files) is not lost until all is durable, where processors bound. Of 6,400 files those that were
  closed 5 s ago are sent while others are still written, at most two at a time.
- **A change of 4 KiB**: the gateway copies the rest by itself, and takes 0.33 s for 120 MiB, in
  3, 5 or 16 parts, 4 to 16 at a time. That and the delay are the row. Until the program is done
  takes some 10 ms at 0 ms, 8 of them to open the file: a LIST and a HEAD, one after the other.
- **Large files**: each byte passes the kernel twice more than without a file system, and MD5 (1.4
  ms a MiB) when it is sent. Of a cold read's 2.0 to 2.5 s of our processor time for 1 GiB (`perf`),
  1.4 s are the kernel's (sockets, the cache's file, FUSE), 0.2 s the checksums of the blocks, and
  0.25 s awscrt's copy into what Python may see; s3fs, without Python and checksums, takes 1.8 s. A
  bare pass-through, which only reads this machine's disk, takes about as long as s3fs from the
  bucket. In this virtual machine memory that was not used lately costs the kernel some 1.4 s a GiB
  in place of 0.3, also of a plain `dd` to the disk: that is what 4 GiB cost more a GiB than 1 GiB,
  with us as with s3fs, and why the parts of files reuse each other's memory.
- **Random reads**: a read costs a round trip where nothing is cached around it, which awscrt
  alone needs, too; what is fetched around it grows with the share of the file that was read, from
  one block of 256 KiB on. For these 100 reads, 400 KiB in all, we fetched 26 MB and s3fs, 10 MB a
  read, 915: near enough to the server nearly all of the file is there after 100 reads.
- **CPU of a small file that is written**: `cp` makes 8 requests of FUSE for it, and `rsync` 21
  (it looks at the name three times, and sets attributes three times): each takes pyfuse3 and trio
  some 60 us, and ours 50 to 240 us (a rename is the most). Sending it takes 0.5 ms of Python and
  0.35 ms of awscrt's threads. On disk it is one inode, 15 us on ext4; where thousands were deleted
  in the last minutes ext4 takes 200 us, as it looks at each of these first, so that each client of
  this bench has a block group of its own.
- **`ls` and `find`**: pyfuse3 answers each name with attributes, for which the kernel makes an
  inode, and has no way to let the kernel keep what a directory showed (`FOPEN_CACHE_DIR`); cold,
  some 20 us a name are parsing, what is believed and what the database keeps. A few files of each
  page are asked what they are, and of the first one a round trip is waited for, which s3fs (it asks
  all) and rclone (it knows no links) have not: that is the rows of 1000 keys. `ls -lR` at 0 ms is
  a HEAD a file: half of it is the gateway's and awscrt's.
- **`stat` during an upload**: the thread that answers runs a third of the time. Otherwise it
  waits for a processor, up to 12 ms at once, or for the GIL, some times a request. A program that
  only sleeps for 1 ms is 8 ms late meanwhile in one case of 100, and a `stat` wakes two, its own
  and ours. A shorter time slice (0.1 ms) or a priority of -10 changes nothing; real-time priority
  for our thread, which no mount should take, makes the median 0.5 ms in place of 2, and the p99
  20 to 23 in place of 34 to 50. rclone's figure has the 5 s in it in which it does nothing: while
  it uploads, its slowest answers take 15 to 50 ms, too."""

PROFILED = """Our mount's, while it did the row alone under `py-spy` (`python -m bench.profiled`):
all its threads by the kernel's counters, and the main thread's time in Python by whose code it was
in. *Kernel* is what its own calls take there: sockets, files, FUSE. *trio* and *pyfuse3* carry each
request from the kernel to us and back; *awscrt threads* speak HTTP; *worker threads* write to the
cache, hash and list."""

HOW = f"""- **Returned**: the program has ended. **Durable**: from then on a plain S3 client, beside
  the gateway, sees every key with its size, or nothing of what was removed; at the end it
  compares the bytes. Both count from the program's start.
- **Cold**, **by a new client**: just mounted, with an empty cache directory and the kernel's
  caches dropped. **Again**: the same client a second time; its own caches and the kernel's are
  warm. **After a remount**: a new client on the old cache directory; the pages of the cache's
  files may still be in memory, for everybody alike.
- Seconds are medians; the clients take turns. "s3fs / ours" above 1: s3fs takes so many times
  as long. `>`: it was stopped, having taken more than a multiple of what we took (the row's goal
  and a tenth, at least `--patience`) and at least {LEAST_SEC} s, and was not tried in later turns.
  `-`: it failed, or was stopped in the row before.
- **Limits**: the same program on this machine's disk; through a bare pyfuse3 pass-through; the
  same bytes or names moved by awscrt's S3 client, without a file system. Among the goals,
  "slower limit" is how far ahead of the peers the slower one of the last two is; of what is done
  again, the pass-through, as awscrt keeps nothing.
- Requests are those in the gateway's log, until all is durable. CPU and memory (VmHWM) are the
  client's: in a line "returned", up to there; in a line "durable", all told. The first byte is the
  median of four files; `stat` asks for the attributes of one file, past the kernel's, every 5 ms
  from the first byte written to the last one uploaded.
- Every client believes for {BELIEVE_SEC} s what it has listed. s3fs has `use_cache`; rclone has
  `--vfs-cache-mode full`, and begins to upload 5 s after a file was closed, its default, which is
  in its durable seconds. See `bench/peers.py`. juicefs is not among them: what it stores in a
  bucket is not the files, so that neither "durable" nor a bucket that is there means the same.
- The gateway, the clients and the programs share this machine: at 0 ms the gateway is often
  what bounds. From a load of about 0.5 on, the machine had other things to do as well."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--results", type=Path, default=RESULTS)
    print(write_page(parser.parse_args().results))


if __name__ == "__main__":
    main()
