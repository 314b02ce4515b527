"""One measurement that fails, hangs or dies is a record with its reason, and the next one is measured."""

import time

from planted_measurements import planted

from triptych.kernels.flash_sigmoid.bench.cases import NOT_REACHED, Job
from triptych.kernels.flash_sigmoid.bench.running import run_jobs


def outcome(record):
    return "measured" if "values" in record else record["failed"]


def records_of(*names, deadline=600.0, job_seconds=60.0):
    jobs = [Job(kind="time", contender=name) for name in names]
    return list(run_jobs(jobs, "cpu", planted, deadline=time.monotonic() + deadline, job_seconds=job_seconds))


def test_an_error_is_a_record_and_the_process_goes_on():
    before, fault, after = records_of("sound", "raises", "sound")
    assert outcome(fault) == "RuntimeError: planted fault"
    assert before["values"] == after["values"]


def test_a_death_is_a_record_and_another_process_goes_on_but_not_a_third_time():
    records = records_of("sound", "dies", "sound", "dies", "sound", "dies")
    died, gone = "its process ended with code -9", "not tried: it broke its process twice"
    assert [outcome(record) for record in records] == ["measured", died, "measured", died, "measured", gone]


def test_a_hang_is_a_record():
    fault, after = records_of("hangs", "sound", job_seconds=2.0)
    assert (outcome(fault), outcome(after)) == ("no result within 2 s", "measured")


def test_jobs_beyond_the_deadline_are_not_reached():
    assert [outcome(record) for record in records_of("sound", "sound", deadline=0.5)] == [NOT_REACHED] * 2


def test_a_job_that_the_deadline_cuts_short_is_not_reached():
    assert [outcome(record) for record in records_of("hangs", deadline=1.5)] == [NOT_REACHED]


def test_what_is_no_number_is_a_fault():
    (fault,) = records_of("no number")
    assert outcome(fault) == "ArithmeticError: error is nan"
