"""Works quietly for a while, beside a job that eats all memory it can get."""

import time


def main() -> None:
    """Count for some seconds."""
    for second in range(1, 7):
        print(f"still here after {second} s", flush=True)
        time.sleep(1)
    print("not disturbed")


if __name__ == "__main__":
    main()
