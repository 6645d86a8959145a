# SPDX-License-Identifier: Apache-2.0

PREFIX  ?= /usr/local
BINDIR  ?= $(PREFIX)/bin
LIBEXEC ?= $(PREFIX)/libexec/esky
INCDIR  ?= $(PREFIX)/include
DOCDIR  ?= $(PREFIX)/share/doc/esky
DESTDIR ?=

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS ?= -s -w -X github.com/esky-hpc/esky/internal/version.made=$(VERSION)
GOBUILD  = CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)'
TOOL     = $(GO) tool -modfile=tools/go.mod
RUNNER   = $(GO) run ./test/runner

BINARIES = bin/esky-wrap bin/esky-hook bin/esky-provider
# Where Slurm's headers are there, its plugin for "sbatch --esky" is built, too.
ifneq ($(wildcard /usr/include/slurm/spank.h),)
BINARIES += bin/spank_esky.so
endif

SHELL_SCRIPTS = $(shell grep -rlE --exclude-dir=.git --exclude-dir=bin --exclude-dir=build --exclude='*.md' --exclude='*.go' --exclude='*.txt' '^\#!.*[/ ](ba)?sh$$' .)

.PHONY: all build shim help demo bench lab-slurm lab-slurm-down lab-gridengine lab-gridengine-down \
        test test-all test-unit test-state test-real test-apps test-fault test-plugin test-stress test-lab race \
        lint fmt proto install uninstall clean FORCE

all: build ## Build everything (the default)

help: ## Say what can be made
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(firstword $(MAKEFILE_LIST)) | column -t -s '|'

build: $(BINARIES) ## Build bin/esky-wrap, bin/esky-hook and bin/esky-provider: static, nothing else to install

shim:
	@$(MAKE) -s --no-print-directory -C shim all

# Go knows best what is out of date, so both are always handed to it.
bin/esky-wrap: shim FORCE
	$(GOBUILD) -o $@ ./cmd/esky-wrap

bin/esky-provider: shim FORCE
	$(GOBUILD) -o $@ ./cmd/esky-provider

bin/esky-hook: FORCE
	$(GOBUILD) -o $@ ./cmd/esky-hook

bin/spank_esky.so: scheduler-hooks/slurm/spank/esky.c
	$(CC) -shared -fPIC -O2 -Wall -Wextra -Werror -o $@ $<

demo: bin/esky-wrap ## Take a running computation away, bring it back, compare: about 20 s
	contrib/demo/run bin/esky-wrap

test: build ## Everything: unit, state, real programs, faults, scheduler lab
	$(RUNNER) -title 'all tests' unit state real apps fault plugin stress lab

test-all: build ## What make test does, and what takes long: all programs, a soak of 1,000 resumes
	$(RUNNER) -all -title 'all tests, the long ones too' unit state real apps fault plugin stress lab

test-unit: shim ## Tests of each package by itself
	$(RUNNER) unit

test-state: build ## One small self-checking program for each kind of state; writes docs/state.md
	ESKY_WRITE_DOCS=1 $(RUNNER) state

test-real: build ## python3+numpy, Go, OpenMP, pthreads, bash, perl, static, musl
	$(RUNNER) real

test-apps: build ## Programs that people install; ESKY_TEST=all installs and runs all of them
	$(RUNNER) apps

docs/programs.md: build FORCE ## Test all programs that people install, and write down how they did
	ESKY_TEST=all ESKY_WRITE_DOC=1 $(RUNNER) apps

test-fault: build ## Damaged images, full disks, killed monitors, hostile peers
	$(RUNNER) fault

test-plugin: build ## Providers and schedulers of others: conformance, misbehaviour, examples
	$(RUNNER) plugin

test-stress: build ## A program that never stands still, and big ones
	$(RUNNER) stress

test-lab: build ## A real scheduler on this machine
	$(RUNNER) lab

race: shim ## Unit tests under the race detector
	CGO_ENABLED=1 $(RUNNER) -race unit

bench: build ## Pause, dump and resume speed beside the limits of this machine (BENCH_FLAGS=-short)
	$(GO) run ./test/bench -esky bin/esky-wrap $(BENCH_FLAGS)

lab-slurm: build ## Start a Slurm of two hosts on this machine to play with
	test/lab/slurm up
	@echo
	@echo "Two hosts are up."
	@echo "  test/lab/example          a job is preempted and goes on on the other host"
	@echo "  test/lab/example limit    a job that is longer than its time limit"
	@echo "  test/lab/slurm help       to give it jobs of your own"
	@echo "  make lab-slurm-down       to take it down again"

lab-slurm-down: ## Stop that Slurm and remove its files
	test/lab/slurm down

lab-gridengine: build ## Start a Grid Engine on this machine to play with
	test/lab/gridengine up
	@echo
	@echo "Three hosts are up."
	@echo "  test/lab/gridengine submit …   qsub, for instance with -ckpt esky -q batch.q"
	@echo "  test/lab/gridengine help       what else there is"
	@echo "  make lab-gridengine-down       to take it down again"

lab-gridengine-down: ## Stop that Grid Engine and remove its files
	test/lab/gridengine down

lint: shim ## gofmt, go vet, staticcheck, shellcheck
	@test -z "$$(gofmt -l cmd internal plugin scheduler-hooks shim test contrib tools 2>/dev/null | tee /dev/stderr)"
	$(GO) vet ./...
	$(GO) -C tools vet ./...
	$(TOOL) staticcheck ./...
	@if command -v shellcheck >/dev/null; then shellcheck $(SHELL_SCRIPTS); \
	else echo "lint: shellcheck is not installed: scripts were not checked"; fi

fmt: ## Format the Go code
	gofmt -w cmd internal plugin contrib scheduler-hooks shim test tools

proto: ## Regenerate the Go code of the .proto files
	$(GO) -C tools run ./protogen .. internal/image/imagepb/image.proto
	$(GO) -C tools run ./protogen .. plugin/wire/provider.proto plugin/wire/scheduler.proto

install: build ## Install under DESTDIR/PREFIX
	install -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(INCDIR) $(DESTDIR)$(DOCDIR)/docs $(DESTDIR)$(LIBEXEC)
	install -m 0755 $(BINARIES) $(DESTDIR)$(BINDIR)
	install -m 0644 shim/esky.h $(DESTDIR)$(INCDIR)
	install -m 0644 README.md LICENSE $(DESTDIR)$(DOCDIR)
	install -m 0644 docs/*.md $(DESTDIR)$(DOCDIR)/docs
	cp -R scheduler-hooks/. $(DESTDIR)$(LIBEXEC)/scheduler-hooks
	find $(DESTDIR)$(LIBEXEC)/scheduler-hooks -name '*.go' -delete
	[ ! -e bin/spank_esky.so ] || install -m 0755 bin/spank_esky.so $(DESTDIR)$(LIBEXEC)/scheduler-hooks/slurm/
	for name in lsf/echkpnt.esky lsf/erestart.esky pbs/torque-checkpoint pbs/torque-restart; do \
		ln -sf $(BINDIR)/esky-hook $(DESTDIR)$(LIBEXEC)/scheduler-hooks/$$name; done

uninstall: ## Remove what install put there
	rm -f $(BINARIES:bin/%=$(DESTDIR)$(BINDIR)/%) $(DESTDIR)$(INCDIR)/esky.h
	rm -rf $(DESTDIR)$(DOCDIR) $(DESTDIR)$(LIBEXEC)

clean: ## Remove what was built
	rm -rf bin build
	-@$(MAKE) --no-print-directory -C shim clean

FORCE:
