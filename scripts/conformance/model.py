"""Trains and samples a model with the Python client. The argument is the file with this crate's results."""

import json
import sys
import warnings

# Deprecated ways are used on purpose.
warnings.simplefilter("ignore")

import tinker

import training


def main():
    with open(sys.argv[1]) as file:
        expected = json.load(file)
    _, _, results = training.train(tinker.ServiceClient())
    training.compare(results, expected)


main()
