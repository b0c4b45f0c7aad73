"""Follows the READMEs of the workshop on a cluster: the same tests, the same files as here."""

from tests.examples.test_workshop import (  # noqa: F401 collected here once more
    test_01_the_basic_job_prints_and_is_listed,
    test_02_the_model_is_a_version_that_leads_back_to_its_run,
    test_03_the_eater_dies_alone_and_is_told_why,
    test_04_parameters_arrive_three_ways_and_are_never_run,
    test_05_many_jobs_queue_and_a_failure_is_named,
)
