# The only entry for people and CI. `make` says what there is.
#
# Run it as yourself: what needs root asks for sudo by itself. What is downloaded or built once is kept in .cache/ of
# the checkout, or in $URUNC_CACHE.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.NOTPARALLEL:
.DEFAULT_GOAL := help

export URUNC_CACHE ?= $(CURDIR)/.cache
# Tests, demo and install name the binaries by their path.
export CARGO_TARGET_DIR := $(CURDIR)/target

CARGO ?= cargo
PREFIX ?= /usr/local
DESTDIR ?=
BINARIES := containerd-shim-urunc-v2 urunc
BINDIR = $(DESTDIR)$(PREFIX)/bin
# What a command is put behind when BINDIR, or the folder that it will be made in, is not ours to write to.
ELEVATE = $$(d='$(BINDIR)'; while [ ! -e "$$d" ]; do d=$$(dirname "$$d"); done; [ -w "$$d" ] || echo sudo)

.PHONY: help
help: ## say what there is
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1 \t\2/p' Makefile | expand -t 22

.PHONY: demo
demo: ## run real guests under a real containerd of its own; everything is taken down at the end
	@demo/run.sh

.PHONY: demo-pod
demo-pod: ## the same for a pod: a guest answers at the pod's addresses
	@demo/run.sh pod

.PHONY: demo-clean
demo-clean: ## take down what a demo left that was killed itself
	@demo/clean.sh

.PHONY: test
test: deps build-fault ## everything: build, then all tests (ARGS='...' are cargo test's, e.g. ARGS='-p saga')
	@tests/run.sh $(ARGS)

.PHONY: test-v2
test-v2: deps build-fault ## the tests of cgroups, Stats and OOM in a guest that has cgroup v2 alone, in software: minutes
	@tests/v2/run.sh

# Hours of luck in some minutes: CI does two rounds of it.
.PHONY: sweep-restart
sweep-restart: deps build-fault ## kill containerd at random moments of pods' lives, 20 rounds for each version
	@URUNC_TEST_SWEEP=20 tests/run.sh --test cri_v1_6 --test cri_v2_3 containerd_is_killed_at_random_moments

# CI does five of them.
.PHONY: pods
pods: deps build-fault ## N=20 pods of a guest and two sidecars, five at a time, one container of each restarted, for each version
	@URUNC_TEST_PODS=$(or $(N),20) tests/run.sh --test cri_v1_6 --test cri_v2_3 pods_of_a_guest_and_two_sidecars

.PHONY: matrix
matrix: deps build-fault ## every fault at every point of every step, a quarter of an hour or two (CASE=NAME: those with NAME in it)
	@URUNC_MATRIX='$(or $(CASE),all)' tests/run.sh --test matrix -- --nocapture

.PHONY: stress-locks
stress-locks: ## 64 processes on 8 records, for a minute
	@URUNC_TEST_STRESS=60 $(CARGO) test --locked -p record-store --test locks sixty_four -- --nocapture

# N cycles of each runtime; SEED repeats a run, AT=CYCLE begins there; COMPARE=1 takes containerd's runc shim through the
# same, RUNTIME=runc that alone; JSON=FILE has the result for programs.
.PHONY: chaos
chaos: deps build-fault ## kill somebody at a random moment of each of N=1000 lives, see that nothing is left (docs/chaos.md)
	@URUNC_CHAOS_N=$(or $(N),1000) URUNC_CHAOS_SEED=$(SEED) URUNC_CHAOS_AT=$(AT) URUNC_CHAOS_RUNTIME=$(RUNTIME) \
		URUNC_CHAOS_COMPARE=$(COMPARE) URUNC_CHAOS_JSON='$(abspath $(JSON))' \
		tests/run.sh --test chaos -- --nocapture

.PHONY: fuzz
fuzz: ## fuzz what others give us, a minute for each target (SECONDS_EACH=60, TARGET=NAME)
	@fuzz/run.sh $(or $(SECONDS_EACH),60) $(TARGET)

.PHONY: lint
lint: ## format, clippy and shellcheck, warnings are errors
	@tests/lint.sh

.PHONY: bench
bench: deps build ## measure
	@if [ -x tests/bench/run.sh ]; then tests/bench/run.sh $(ARGS); else echo 'there are no benchmarks yet'; fi

.PHONY: bench-pod
bench-pod: deps build ## measure pods, under containerd 1.6 (or VERSION=2.3)
	@tests/bench/run.sh --pods --containerd $(or $(VERSION),1.6) $(ARGS)

.PHONY: bench-journal
bench-journal: deps build ## measure what the records of one Create cost, on a tmpfs and on the disk
	@URUNC_TEST_JOURNAL=20 tests/run.sh --test direct_journal -- --nocapture

.PHONY: deps
deps: ## install and make what building, tests and demo need, once
	@tests/tools/deps.sh all

.PHONY: deps-demo
deps-demo: # what the demo needs
	@tests/tools/deps.sh demo

.PHONY: deps-demo-pod
deps-demo-pod: # and the one with a pod: also crictl
	@tests/tools/deps.sh demo-pod

.PHONY: deps-lint
deps-lint: # shellcheck
	@tests/tools/deps.sh lint

.PHONY: build
build: ## build the two programs into target/release
	$(CARGO) build --release --locked

# cargo keeps both variants of the shim; only the link in target/release goes back and forth. The plain one is last,
# so what is installed never has fault points.
.PHONY: build-fault
build-fault: # also the shim with fault points, for tests: target/fault
	$(CARGO) build --release --locked -p containerd-shim-urunc-v2 --features fault
	@mkdir -p target/fault
	@cp target/release/containerd-shim-urunc-v2 target/fault/.new
	@mv -f target/fault/.new target/fault/containerd-shim-urunc-v2
	$(CARGO) build --release --locked

# By rename: a shim that runs keeps its file, and containerd never sees half of one.
.PHONY: install
install: build ## install them into DESTDIR/PREFIX/bin (PREFIX=/usr/local)
	@as=$(ELEVATE); $$as mkdir -p '$(BINDIR)'; \
	for name in $(BINARIES); do \
		$$as install -m 755 "target/release/$$name" "$(BINDIR)/.$$name.new"; \
		$$as mv -fT "$(BINDIR)/.$$name.new" "$(BINDIR)/$$name"; \
		echo "installed $(BINDIR)/$$name"; \
	done

.PHONY: uninstall
uninstall: ## remove them again; what runs goes on
	@as=$(ELEVATE); for name in $(BINARIES); do $$as rm -f "$(BINDIR)/$$name"; echo "removed $(BINDIR)/$$name"; done

.PHONY: clean
clean: ## remove what was built and cached here
	@[ ! -d .cache/demo ] || demo/clean.sh
	@rm -rf target .cache 2>/dev/null || sudo rm -rf target .cache
