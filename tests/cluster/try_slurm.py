"""The grid of trainings on a cluster, tried for real: SLURM on this machine, as two nodes.

    python tests/cluster/try_slurm.py [steps=300 scales=4]

Twelve small trainings are sent by Snakemake as jobs. A node is lost during one, one is cancelled,
and one is ended by its time limit; each must end with the weights of an undisturbed training, bit
for bit. Needs root and, on Debian, `apt-get install slurm-wlm munge`. Everything that is started
is ended again, and nothing is written but to a temporary folder.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).parents[2]
NODES = ("one", "two")
GIVEN = {"data": "faces", "steps": "300"} | dict(word.split("=") for word in sys.argv[1:])
SETTINGS = [f"{name}={value}" for name, value in GIVEN.items()]
GRID = ("--preset", "smoke", *(word for setting in SETTINGS for word in ("-p", setting)))
COPIED = ("src", "notebooks", "profiles", "book/reference", "Snakefile", "_config.yml")

CONFIG = """
ClusterName=tried
SlurmctldHost={host}
SlurmctldPort={port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdTimeout=10
KillWait=30
ReturnToService=2
MinJobAge=600
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def main():
    began = time.monotonic()
    missing = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if not found(name)]
    if missing:
        sys.exit(f"{', '.join(missing)}: not here; `apt-get install slurm-wlm munge` has them")
    if os.getuid():
        sys.exit("not root: daemons of SLURM start jobs as their users")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="slurm-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        undisturbed = folder / "undisturbed"
        say(f"training networks two at a time: {', '.join(SETTINGS)}")
        run("stochrestore", "train", "sr_scaling", *GRID, "--workers", "2", "-o", undisturbed)
        alone = time.monotonic() - began
        share = two_at_a_time(undisturbed)
        say(f"{alone:.0f} s; two trainings ran in {share:.0%} of the time until the last one began")
        assert share > 0.9
        cluster = Cluster(folder, stack)
        try:
            disturbed_grid(cluster, checkout(folder), patience=max(1200, 5 * alone))
        except BaseException:
            print(cluster.logs(), file=sys.stderr)
            raise
        weights = folder / "checkout" / "_build" / "weights" / "sr_scaling" / "smoke"
        differing = [n for n, sha in digests(undisturbed).items() if digests(weights).get(n) != sha]
        assert not differing, differing
        say(
            f"all {len(digests(undisturbed))} have the weights of the undisturbed ones, bit for bit"
        )
    say(f"passed in {time.monotonic() - began:.0f} s")


def found(program):
    return shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


def say(text):
    print(f"{datetime.now():%T} {text}", flush=True)


def environment(root):
    """Commands of this Python, with the library of a checkout."""
    own = [str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin"]
    return os.environ | {
        "PATH": os.pathsep.join(own),
        "PYTHONPATH": str(root / "src"),
        "OMP_NUM_THREADS": "1",
        "TQDM_DISABLE": "1",
    }


def run(*command):
    subprocess.run([str(part) for part in command], check=True, cwd=ROOT, env=environment(ROOT))


def checkout(folder):
    """A copy of what the pipeline needs, for trainings of its own."""
    root = folder / "checkout"
    for name in COPIED:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, root / name)
    return root


def disturbed_grid(cluster, root, patience):
    """Send the trainings as jobs, and disturb three of them; returns once all are done.

    Args:
        patience: seconds that all may take from then on, which depend on the machine's other work.
    """
    began = time.monotonic()
    options = ("--slurm-init-seconds-before-status-checks", "3", "--slurm-no-account")
    options += ("--slurm-status-command", "squeue")  # there is no accounting
    command = [sys.executable, "-m", "snakemake", "sr_grid", *options]
    command += ["--workflow-profile", "profiles/slurm", "--config", "preset=smoke", *SETTINGS]
    log = (cluster.folder / "snakemake.out").open("wb")
    sender = subprocess.Popen(
        command, cwd=root, env=environment(root), stdout=log, stderr=log, start_new_session=True
    )
    cluster.daemons["snakemake"] = sender
    weights = root / "_build" / "weights" / "sr_scaling" / "smoke"
    sent = {}  # the numbers of each training's jobs

    def trainings():
        now = cluster.trainings()
        for name, (_, job, _) in now.items():
            sent.setdefault(name, set()).add(job)
        return now

    def next_one():
        assert sender.poll() is None, "Snakemake has ended"
        for name, found in trainings().items():
            if name not in disturbed and (weights / "checkpoints" / f"{name}.pt").exists():
                disturbed.append(name)
                return (name, *found)
        return None

    disturbed = []
    name, _, job, node = wait(next_one, 600, "a training with a checkpoint")
    say(f"node {node} is lost while job {job} trains {name}")
    cluster.lose(node, job)
    wait(lambda: "down" in cluster.ask("sinfo", "-h", "-n", node, "-o", "%T"), 90, "a lost node")
    cluster.start("slurmd", "-D", "-N", node, name=node)

    name, _, job, _ = wait(next_one, 600, "a training with a checkpoint")
    say(f"job {job} is cancelled, which trains {name}")
    cluster.ask("scancel", job)

    name, pid, job, _ = wait(next_one, 600, "a training with a checkpoint")
    os.kill(pid, signal.SIGSTOP)  # or it might be done before
    cluster.ask("scontrol", "update", f"JobId={job}", "TimeLimit=1")
    state = ("squeue", "-h", "-t", "all", "-j", job, "-o", "%T")
    wait(lambda: cluster.ask(*state).strip() != "RUNNING", 240, "the time limit")
    os.kill(pid, signal.SIGCONT)  # SLURM has asked it to end, and kills it after KillWait
    wait(lambda: pid not in pids(), 60, "the end at a time limit")
    said = (weights / "logs" / f"{name}.log").read_text("utf-8")
    assert "interrupted; the same command continues" in said, said
    say(f"job {job} was ended by its time limit, which trains {name}")

    wait(lambda: (trainings() and False) or sender.poll() is not None, patience, "the grid's end")
    assert sender.returncode == 0, sender.returncode
    again = {name: len(sent[name]) for name in disturbed}
    assert all(jobs > 1 for jobs in again.values()), again
    say(f"the grid took {time.monotonic() - began:.0f} s; jobs of the disturbed trainings: {again}")


def digests(folder):
    """sha256 of the weights by name, as the records say."""
    records = {path: json.loads(path.read_text("utf-8")) for path in folder.rglob("x*/*.json")}
    return {record["job"]: record["sha256"] for record in records.values()}


def two_at_a_time(folder):
    """Of the time from the first training's beginning to the last one's, the share with two."""
    times = [json.loads(path.read_text("utf-8"))["ran"] for path in folder.rglob("x*/*.json")]
    spans = [[datetime.fromisoformat(t).timestamp() for t in span] for span in times]
    last = max(begin for begin, _ in spans)
    moments = range(int(min(begin for begin, _ in spans)) + 1, int(last))
    both = [sum(begin <= now < end for begin, end in spans) >= 2 for now in moments]
    return sum(both) / len(both)


class Cluster:
    """The daemons of two nodes and of their controller, on this machine."""

    def __init__(self, folder, stack):
        self.folder, self.daemons = folder, {}
        stack.callback(self.end)
        key = folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        for name in ("state", *(f"spool-{node}" for node in NODES)):
            (folder / name).mkdir()
        host = socket.gethostname()
        ports = [free_port() for _ in range(1 + len(NODES))]
        nodes = [
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=1 "
            "RealMemory=6000"
            for node, port in zip(NODES, ports[1:], strict=True)
        ]
        config = folder / "slurm.conf"
        values = {"host": f"{host}(127.0.0.1)", "port": ports[0], "nodes": "\n".join(nodes)}
        config.write_text(CONFIG.format(folder=folder, **values))
        os.environ["SLURM_CONF"] = str(config)
        # Snakemake's plugin starts srun without the variable: clusters have /etc/slurm/slurm.conf.
        wrapped = f'#!/bin/sh\nSLURM_CONF={config} exec {found("srun")} "$@"\n'
        (folder / "bin").mkdir()
        (folder / "bin" / "srun").write_text(wrapped)
        (folder / "bin" / "srun").chmod(0o755)
        os.environ["PATH"] = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        files = {
            "key-file": key,
            **{f"{n}-file": folder / f"munge.{n}" for n in ("pid", "log", "seed")},
        }
        options = [f"--{name}={path}" for name, path in files.items()]
        self.start("munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *options)
        wait(lambda: (folder / "munge.socket").exists(), 30, "munged")
        self.start("slurmctld", "-D")
        for node in NODES:
            self.start("slurmd", "-D", "-N", node, name=node)
        wait(lambda: self.ask("sinfo", "-h", "-o", "%T").split() == ["idle"], 60, "idle nodes")

    def start(self, program, *options, name=None):
        log = (self.folder / f"{name or program}.out").open("ab")
        command = [found(program), *options]
        self.daemons[name or program] = subprocess.Popen(command, stdout=log, stderr=log)

    def ask(self, *command):
        done = subprocess.run(command, capture_output=True, text=True)
        return done.stdout if done.returncode == 0 else ""

    def trainings(self):
        """The trainings that jobs carry out now, by name: process, job and node."""
        found = {}
        for pid in pids():
            arguments, told = words(pid), variables(pid)
            ours = told.get("SLURM_CONF") == os.environ["SLURM_CONF"] and "SLURM_JOB_ID" in told
            if ours and "--only" in arguments and "train" in arguments:
                name = arguments[arguments.index("--only") + 1]
                found[name] = (pid, told["SLURM_JOB_ID"], told["SLURMD_NODENAME"])
        return found

    def lose(self, node, job):
        """End a node's daemon, its job and all that they have started, as a loss of power does."""
        steps = [pid for pid in pids() if f"slurmstepd: [{job}." in " ".join(words(pid))]
        for pid in (
            self.daemons[node].pid,
            *steps,
            *(d for step in steps for d in descendants(step)),
        ):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.daemons[node].wait()

    def end(self):
        self.ask("scancel", "--user=root")
        for name, daemon in reversed(self.daemons.items()):
            for pid in descendants(daemon.pid) if name in NODES else []:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            daemon.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(10)
            daemon.kill()
            daemon.wait()
        for pid in pids():  # a job's own processes are not the daemons'
            if str(self.folder) in variables(pid).get("SLURM_CONF", "") and pid != os.getpid():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def logs(self):
        files = [*self.folder.glob("*.out"), *self.folder.glob("*.log")]
        files += self.folder.rglob("checkout/.snakemake/slurm_logs/**/*.log")
        files += self.folder.rglob("checkout/_build/weights/**/logs/**/*.log")
        return "\n".join(f"== {f}\n{f.read_text(errors='replace')[-2000:]}" for f in files)


def free_port():
    with socket.socket() as each:
        each.bind(("127.0.0.1", 0))
        return each.getsockname()[1]


def wait(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(0.2)
    return result


def pids():
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def variables(pid):
    """The environment of a process; empty where it is gone."""
    try:
        pairs = Path(f"/proc/{pid}/environ").read_text(errors="replace").split("\0")
    except OSError:
        return {}
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def words(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return []


def descendants(pid):
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True)
    children = [int(child) for child in listed.stdout.split()]
    return children + [d for child in children for d in descendants(child)]


if __name__ == "__main__":
    main()
