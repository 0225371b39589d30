# An index of scripts/: each target is one line. `make help` lists them.
.PHONY: help setup build dist test demo check sanitize bench
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -E '^[a-z]+: .*##' Makefile | sed -E 's/^([a-z]+):.*## /\1\t/' | while IFS="	" read -r t d; do printf '  make %-9s %s\n' "$$t" "$$d"; done

setup: ## install Debian packages and the Python environment
	@scripts/setup

build: ## release build
	@scripts/setup
	swift build -c release --product epp-pd

dist: ## a release that runs elsewhere: folder and tarball in out/
	@scripts/setup
	@scripts/dist

test: ## set up, build, run all tests, end-to-end ones included
	@scripts/test

demo: ## a real Envoy, epp-pd and a mixed fleet of mock pods on this machine
	@scripts/demo

check: ## format, warnings, tidy
	@scripts/check

sanitize: ## the Swift suite under ThreadSanitizer and AddressSanitizer, end-to-end tests with freed memory overwritten
	@scripts/sanitize

bench: ## what the data path costs, with the real Envoy in front
	@scripts/bench
