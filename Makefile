# A thin front of Meson and the tools.  `make` alone lists what there is.
BUILD ?= build
AREA ?=
PREFIX ?= /usr/local
SIM_TIME ?= 600s
SEED ?=
PY = /usr/bin/python3
NINJA = ninja -C $(BUILD)

.DEFAULT_GOAL := help
.PHONY: help run test check canary bench bench-frames bench-heap bench-malloc bench-icount features sizes coverage install format clean all sim quire-sim setup-build setup-run setup-test setup-bench

help:
	@echo 'make run           a tour: real Linux programs in a machine whose memory Quire manages'
	@echo 'make test          every test (minutes; ends with "N passed, N failed, N skipped")'
	@echo 'make check         the quick part of it: format, layers, unit tests (under a minute)'
	@echo 'make canary        planted bugs: the simulator must find each (ends with "found F of C")'
	@echo 'make bench         all tables of measurements'
	@echo 'make bench-frames  the frame allocator beside a textbook buddy and page pools (QUICK=1: a minute)'
	@echo 'make bench-heap    the kernel heap as a malloc beside glibc, mimalloc, jemalloc and tcmalloc'
	@echo 'make bench-malloc  python, sqlite3, redis, gcc and git under libquire-malloc.so, beside glibc'
	@echo 'make bench-icount  instructions of each memory operation, beside those of Linux 6.1'
	@echo 'make features      which features are proved by which tests (AREA=run: those of one area)'
	@echo 'make sizes         bytes of machine code by layer'
	@echo 'make coverage      lines and branches of the library that the tests execute, by layer'
	@echo 'make sim           10 minutes of simulated machines (SIM_TIME=60s, SEED=n; ./quire sim --help)'
	@echo 'make install       put the quire command under PREFIX (/usr/local)'
	@echo 'make format        lay the sources out with clang-format'
	@echo 'make clean         remove what was built'
	@echo
	@echo './quire run -- PROGRAM ARGS...   runs any program of this machine on Quire; ./quire help says more'

setup-build setup-run setup-test: setup-%:
	@sh scripts/setup.sh $*

# Rivals to measure against: what is missing is left out of the table.
setup-bench:
	@sh scripts/setup.sh bench || echo 'bench: goes on without them'

$(BUILD)/build.ninja: | setup-build
	meson setup $(BUILD)

all: setup-build $(BUILD)/build.ninja
	@if [ -e $(BUILD)/quire-kernel.elf ]; then $(NINJA) --quiet product; \
	else echo 'Building the library and the kernel (once; half a minute)'; $(NINJA) product; fi

run: setup-run all
	@$(PY) tools/tour.py $(BUILD)

test: setup-test $(BUILD)/build.ninja
	@$(PY) tools/test.py all --build $(BUILD)

check: setup-test $(BUILD)/build.ninja
	@$(PY) tools/test.py check --build $(BUILD)

canary: setup-test
	@$(PY) tools/canary.py

bench: setup-test setup-bench all
	@$(PY) tools/bench.py all --build $(BUILD)

bench-frames: setup-build setup-bench $(BUILD)/build.ninja
	@$(PY) tools/bench.py frames --build $(BUILD) $(if $(QUICK),--quick)

bench-heap: setup-build setup-bench $(BUILD)/build.ninja
	@$(PY) tools/bench.py heap --build $(BUILD) $(if $(QUICK),--quick)

bench-malloc: setup-test $(BUILD)/build.ninja
	@$(PY) tools/bench.py malloc --build $(BUILD) $(if $(QUICK),--quick)

bench-icount: setup-run all
	@$(PY) tools/bench.py icount --build $(BUILD)

features: setup-build
	@$(PY) tools/features.py --build $(BUILD) $(if $(AREA),--area $(AREA))

sizes: all
	@$(PY) tools/sizes.py --build $(BUILD)

coverage: setup-test
	@$(PY) tools/coverage.py

quire-sim: setup-build $(BUILD)/build.ninja
	@[ -e $(BUILD)/tools/sim/quire-sim ] || echo 'Building the simulator (once; half a minute)' >&2
	@said=$$($(NINJA) tools/sim/quire-sim 2>&1) || { echo "$$said" >&2; exit 1; }

sim: quire-sim
	@$(BUILD)/tools/sim/quire-sim --cpus 8 --jobs $$(nproc) --time $(SIM_TIME) $(if $(SEED),--seed $(SEED))

install: all
	@$(PY) tools/install.py --build $(BUILD) --prefix $(PREFIX)

format: setup-test
	@git ls-files -z --cached --others --exclude-standard '*.c' '*.h' | xargs -0 clang-format -i

clean:
	@if [ -d "$(BUILD)/meson-info" ]; then rm -rf --one-file-system -- "$(BUILD)"; \
	elif [ -e "$(BUILD)" ]; then echo "$(BUILD) is no build folder of Meson: left alone"; exit 1; fi
