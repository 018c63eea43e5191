"""Pages a second of `quire run` and of a fleet on this machine over the same files, in turns.

    scale_out.py QUIRE_BINARY INPUT [--rounds 3] [--workers 1,2,4] [--store sqlite|postgres://...]

Each round times `quire run` and, for each number of worker processes, a fresh fleet: one
coordinator, that many workers, `quire submit`, until the job is done. Both are timed from the
first process started to the sealed dataset, so models are loaded in both. Cores are shared out:
with more workers than cores each reads one page at a time. The ratio of one worker to `run` is
what the fleet's path costs. The order changes from round to round; run it with nothing else on
the machine. Give it so many pages that each worker gets twenty shards.
"""

import argparse
import json
import os
import pathlib
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

PATIENCE_S = 3600


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("quire")
    parser.add_argument("input", nargs="+")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", default="1,2,4")
    parser.add_argument("--store", default="sqlite")
    parser.add_argument("--shard-pages", type=int, default=32)
    args = parser.parse_args()
    counts = [int(n) for n in args.workers.split(",")]
    ways = ["run", *counts]
    speeds = {way: [] for way in ways}
    for number in range(args.rounds):
        # Whoever comes first finds a colder machine, and should not always be the same.
        shift = number % len(ways)
        for way in ways[shift:] + ways[:shift]:
            with tempfile.TemporaryDirectory(prefix="quire-scale-") as scratch:
                measure = run_alone if way == "run" else run_fleet
                pages, seconds = measure(args, pathlib.Path(scratch), way)
            speeds[way].append(pages / seconds)
            print(f"round {number + 1}: {name(way):12} {pages} pages in {seconds:.1f} s: "
                  f"{pages / seconds:.3f} pages/s", flush=True)
    print()
    for way in ways:
        ratios = [a / b for a, b in zip(speeds[way], speeds["run"])]
        print(f"{name(way):12} median {statistics.median(speeds[way]):.3f} pages/s, "
              f"{statistics.median(ratios):.3f} of run (from {min(ratios):.3f} "
              f"to {max(ratios):.3f})")


def name(way):
    return "run" if way == "run" else f"{way} worker{'s' if way > 1 else ''}"


def run_alone(args, scratch, _):
    out = scratch / "dataset"
    settings = write_settings(scratch, args)
    start = time.perf_counter()
    command = [args.quire, "--config", settings, "run", *args.input, "--out", out]
    subprocess.run(command, check=True, capture_output=True)
    return pages_of(args.quire, out), time.perf_counter() - start


def run_fleet(args, scratch, n_workers):
    out = scratch / "dataset"
    settings = write_settings(scratch, args)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    store = args.store if "://" in args.store else f"sqlite:{scratch}/fleet.db"
    base = [args.quire, "--config", str(settings)]
    reading = max(1, (os.cpu_count() or 1) // n_workers)
    processes = []

    def start_process(label, *command, **more):
        log = open(scratch / f"{label}.log", "wb")
        environment = {**os.environ, **more}
        processes.append(subprocess.Popen(
            [*base, *command], stdout=log, stderr=log, env=environment
        ))

    start = time.perf_counter()
    try:
        listen = f"127.0.0.1:{port}"
        start_process("coordinator", "coordinator", "--listen", listen, "--store", store)
        wait_for_port(port, processes[0])
        for number in range(n_workers):
            label = f"worker-{number}"
            (scratch / label).mkdir()
            start_process(
                label, "worker", "--coordinator", url, "--name", label, "--node", label,
                "--workers", str(reading), QUIRE__WORKER__SCRATCH=str(scratch / label),
            )
        submitted = subprocess.run(
            [*base, "submit", *args.input, "--out", str(out), "--coordinator", url],
            check=True, capture_output=True, text=True,
        )
        job_id = submitted.stdout.strip()
        wait_for_job(base, url, job_id, processes, scratch)
        seconds = time.perf_counter() - start
    finally:
        for process in reversed(processes):
            process.send_signal(signal.SIGTERM)
        for process in processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
    return pages_of(args.quire, out), seconds


def write_settings(scratch, args):
    """The same for both ways, but for what only one of them has. Publishing waits for nobody at
    the end, so its period hardly matters."""
    path = scratch / "quire.toml"
    path.write_text(f"[job]\nshard_pages = {args.shard_pages}\n")
    return path


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for_port(port, process):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    sys.exit("the coordinator does not listen")


def wait_for_job(base, url, job_id, processes, scratch):
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        answer = subprocess.run(
            [*base, "status", job_id, "--json", "--coordinator", url],
            capture_output=True, text=True,
        )
        state = state_of(answer.stdout)
        if state == "done":
            return
        dead = [process for process in processes if process.poll() is not None]
        if dead or state in ("failed", "canceled", "paused"):
            for log in sorted(scratch.glob("*.log")):
                print(f"--- {log.name}\n{log.read_text(errors='replace')[-2000:]}", file=sys.stderr)
            sys.exit(f"job {job_id} is {state}: {answer.stdout} {answer.stderr}")
        time.sleep(0.25)
    sys.exit(f"job {job_id} is not done after {PATIENCE_S} s")


def state_of(text):
    try:
        job = json.loads(text)
    except ValueError:
        return "unknown"
    state = str(job.get("state") or job.get("job", {}).get("state") or "unknown")
    return state.lower().removeprefix("job_state_")


def pages_of(quire, out):
    """Pages that were read, from the dataset itself."""
    files = subprocess.run(
        [quire, "files", str(out), "--table", "pages"], check=True, capture_output=True, text=True
    )
    import pyarrow.parquet as parquet

    paths = [line.removeprefix("file://") for line in files.stdout.split("\n") if line]
    return sum(parquet.ParquetFile(path).metadata.num_rows for path in paths)


if __name__ == "__main__":
    main()
