"""The commands for a Ray cluster: `losstune submit` and `logs`; `status` and `stop` take --address too."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from losstune.search.cli_options import LedgerUrl, Set, Storage, StudyName, console, load
from losstune.search.locations import Locations

cluster = typer.Typer()

Address = Annotated[str, typer.Option(help="The dashboard of a Ray cluster, HOST:PORT; by a tunnel 127.0.0.1:8265.")]
OnCluster = Annotated[
    Path, typer.Option("--out", help="A folder of the head; without --storage one that every machine sees.")
]


@cluster.command()
def submit(
    study: StudyName, address: Address, out: OnCluster, set_: Set = None,
    data_root: Annotated[str | None, typer.Option(help="The folder of data sets, on the cluster.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Confirm so many seeds, or up to that planned look.")] = None,
    trials: Annotated[int | None, typer.Option(help="Configurations per loss; adds the missing ones.")] = None,
    hours: Annotated[float | None, typer.Option(help="Cut the search of every loss equally after so long.")] = None,
    name: Annotated[str | None, typer.Option(help="Run it under another name, apart from what there is.")] = None,
    pip: Annotated[Path | None, typer.Option(help="A file of packages for the job, if the machines lack them.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Show what it prints until it has ended.")] = False,
    supervise: Annotated[
        bool, typer.Option("--supervise", help="Follow it, and submit it again if it, or the head, is lost.")
    ] = False,
    storage: Storage = None, ledger: LedgerUrl = None,
) -> None:  # fmt: skip
    """Run a study as a job of a Ray cluster, or go on with it; submitted twice it runs once.

    Example: losstune submit digits --address 127.0.0.1:8265 --out /mnt/shared/runs
    """
    from losstune.search import cluster as jobs

    loaded = load(study, set_, {"confirm.seeds": seeds, "search.trials": trials, "stop.hours": hours, "name": name})
    place = jobs.Places(jobs.on_cluster(out), data_root, Locations(storage, ledger).checked())
    if storage is not None and "://" not in storage:
        jobs.on_cluster(Path(storage), "--storage")

    def note(text: str) -> None:
        console.print(text, markup=False)

    def submitted() -> jobs.Job:
        job, new = jobs.Cluster(address).submit(loaded, place, pip)
        note(f"{job.id} {'is submitted' if new else 'runs already'}")
        return job

    def followed(job: jobs.Job) -> jobs.Job:
        return jobs.Cluster(address).follow(job, jobs.say_line)

    if place.lost_with_head:
        note(place.lost_with_head)
    if supervise:
        raise typer.Exit(jobs.supervise(submitted, followed, note))
    job = submitted()
    if follow:
        raise typer.Exit(jobs.status_of(followed(job)))
    for command in ("logs", "status", "stop"):
        note(f"losstune {command} {loaded.name} --address {address}")


@cluster.command()
def drain_on_notice(
    cloud: Annotated[str, typer.Option(help="Whose machine this is: aws, gcp or azure.")],
    endpoint: Annotated[str | None, typer.Option(help="Where its notices are read; default: the cloud's own.")] = None,
    node_ip: Annotated[str | None, typer.Option(help="This machine's address in the cluster; default: Ray's.")] = None,
    ray_address: Annotated[str, typer.Option(help="The cluster, HOST:PORT; default: this machine's.")] = "auto",
) -> None:  # fmt: skip
    """On a machine of a Ray cluster: wait until the cloud says that it takes the machine back, and tell Ray.

    Its lanes then park their trials and start on others. cluster.yaml and clusters/gcp.yaml start this on workers.

    Example: losstune drain-on-notice --cloud aws
    """
    from losstune.search import preemption

    at = preemption.endpoint_of(cloud, endpoint)
    machine = preemption.Machine(ray_address, node_ip)
    console.print(f"{at} is asked for {machine.ip} of the cluster at {machine.cluster}", markup=False)
    notice = preemption.wait_for(cloud, at)
    machine.drain(notice)
    console.print(f"{notice.text}; Ray places nothing here any more", markup=False)


@cluster.command()
def logs(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="The name of a study that was submitted.")],
    address: Address,
    follow: Annotated[bool, typer.Option("--follow", help="Until it has ended.")] = False,
) -> None:
    """Show what a study prints that runs on a cluster, or ran.

    Example: losstune logs digits --address 127.0.0.1:8265 --follow
    """
    from losstune.search import cluster as jobs

    there = jobs.Cluster(address)
    job = there.found(Path(study).stem)
    if not follow:
        jobs.say_line(there.logs(job))
        return
    raise typer.Exit(jobs.status_of(there.follow(job, jobs.say_line)))
