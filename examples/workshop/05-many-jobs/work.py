"""One of many: looks for primes below a number, and fails if it is told to."""

import argparse
import time


def primes_below(limit: int) -> int:
    """Count the primes below a number, by the sieve of Eratosthenes."""
    sieve = bytearray([1]) * max(limit, 2)
    sieve[0:2] = b"\0\0"
    for number in range(2, int(limit**0.5) + 1):
        if sieve[number]:
            sieve[number * number :: number] = bytes(len(sieve[number * number :: number]))
    return sum(sieve)


def main() -> None:
    """Do one job's share."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--number", type=int, required=True)
    arguments.add_argument("--fails-at", type=int, default=-1, help="the job that is to fail")
    given = arguments.parse_args()
    print(f"job {given.number} starts", flush=True)
    time.sleep(0.3)
    if given.number == given.fails_at:
        raise SystemExit(f"job {given.number} was told to fail")
    limit = 100_000 * given.number
    print(f"{primes_below(limit)} primes below {limit}")


if __name__ == "__main__":
    main()
