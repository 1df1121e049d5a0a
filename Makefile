# Everything from a fresh Debian 12 with git, make and a network. `make help` lists the targets; each one does the set-up
# that it needs, says what it does, and is quick when there is nothing to do.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

JOBS ?= $(shell nproc)
PREFIX ?= /usr/local
FUZZ_SECONDS ?= 60
SOAK_TOKENS ?= 200000
MODEL_NAME := gemma3-270m
KVASS := build/release/kvass

# The demo: a stream of three times its context, in a cache that stays as large as it was before the first token.
DEMO_PROMPT := Once upon a time, in a small town by the sea, there lived
DEMO_STREAM := --context 512 --attention-sink 4,508
DEMO_TOKENS := 1500

# Defines stage: a line with the time since the recipe began.
stages = stage() { printf '== %d:%02d %s\n' $$((SECONDS / 60)) $$((SECONDS % 60)) "$$1"; }
# On a terminal Ninja shows its progress in one line; elsewhere it would write a line for each file.
quiet_ninja = $$([ -t 1 ] || echo -- --quiet)

# $(call build,<preset>): configure once, then compile what changed.
build = echo "== building preset $(1) in build/$(1)"; \
	cmake --preset $(1) --log-level=WARNING; \
	cmake --build --preset $(1) --parallel $(JOBS)

# $(call run_tests,<preset>,<environment>): the last lines of output are CTest's.
run_tests = echo "== testing preset $(1)$(if $(2), with $(2))"; \
	env $(2) ctest --preset $(1) --parallel $(JOBS)

# Sets KVASS_MODEL for the tests: the caller's, or the fetched one; without either the tests that need a model are skipped.
define model_for_tests
if [ -z "$${KVASS_MODEL:-}" ]; then
  KVASS_MODEL=$$(scripts/fetch-model.sh $(MODEL_NAME)) || KVASS_MODEL=
fi
if [ -n "$$KVASS_MODEL" ]; then
  export KVASS_MODEL
  echo "== tests use the model $$KVASS_MODEL"
else
  unset KVASS_MODEL
  echo "== no model and no way to fetch it: the tests that need one are SKIPPED"
fi
if [ -z "$${KVASS_SPEECH_MODEL:-}" ]; then
  KVASS_SPEECH_MODEL=$$(scripts/fetch-model.sh whisper-base) || KVASS_SPEECH_MODEL=
fi
if [ -n "$$KVASS_SPEECH_MODEL" ]; then
  export KVASS_SPEECH_MODEL
  echo "== and the speech model $$KVASS_SPEECH_MODEL"
else
  unset KVASS_SPEECH_MODEL
fi
endef

.PHONY: help packages build fetch demo demo-serve test test-long soak fuzz bench install package package-arm64 wheels clean

help: ## this list
	@echo "kvass: make <target>"
	sed -nE 's/^([a-z0-9-]+):.*## (.*)/  \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 14
	echo "JOBS=$(JOBS) and PREFIX=$(PREFIX) can be set; KVASS_MODEL=<file.gguf> makes the tests use that model."

packages: ## install the Debian packages that are missing (root or sudo)
	@scripts/install-packages.sh

build: packages ## build the release preset in build/release
	@$(call build,release)

fetch: packages ## fetch Gemma 3 270M into the cache folder, once
	@scripts/fetch-model.sh $(MODEL_NAME)

demo: ## set up everything (the program alone), then stream text well past the context
	@$(stages)
	stage "packages"
	scripts/install-packages.sh --program
	stage "the model, fetched while the program is built"
	mkdir -p build
	scripts/fetch-model.sh $(MODEL_NAME) >build/demo-model &
	fetching=$$!
	cmake --preset program --log-level=WARNING >build/demo-configure.log
	cmake --build --preset program --parallel $(JOBS) $(quiet_ninja)
	wait $$fetching
	model=$$(cat build/demo-model)
	stage "the memory plan of this stream"
	$(KVASS) plan "$$model" $(DEMO_STREAM)
	stage "$(DEMO_TOKENS) tokens in a context of 512: $(KVASS) run $$model $(DEMO_STREAM) -n $(DEMO_TOKENS) --ignore-eos"
	$(KVASS) run "$$model" $(DEMO_STREAM) -n $(DEMO_TOKENS) --ignore-eos -p "$(DEMO_PROMPT)"
	stage "done"

demo-serve: ## the same set-up, then the model behind HTTP at http://127.0.0.1:8080
	@$(stages)
	stage "packages"
	scripts/install-packages.sh --program
	stage "the model and the program"
	model=$$(scripts/fetch-model.sh $(MODEL_NAME))
	cmake --preset program --log-level=WARNING
	cmake --build --preset program --parallel $(JOBS) $(quiet_ninja)
	stage "try: curl localhost:8080/v1/completions -H 'Content-Type: application/json' -d '{\"prompt\":\"The sea\",\"max_tokens\":40}'"
	exec $(KVASS) serve "$$model"

test: build ## build and run every quick test
	@$(model_for_tests)
	$(call run_tests,release)

test-long: build ## all goldens, the emulated AVX-512 kernels, and the sanitizers
	@$(model_for_tests)
	$(call run_tests,release,KVASS_LONG=1)
	$(call build,avx512-emulated)
	$(call run_tests,avx512-emulated)
	$(call build,asan)
	$(call run_tests,asan)
	$(call build,tsan)
	$(call run_tests,tsan)
	scripts/wheels.sh

soak: build ## a stream of SOAK_TOKENS tokens (200,000; a million takes hours)
	@$(model_for_tests)
	$(call run_tests,release,KVASS_SOAK=$(SOAK_TOKENS))

fuzz: ## each libFuzzer target for FUZZ_SECONDS, from its corpus
	@scripts/install-packages.sh --fuzz
	$(call build,fuzz)
	for program in build/fuzz/fuzz/*_fuzz; do
	  name=$$(basename "$$program")
	  found=build/fuzz/corpus/$$name
	  mkdir -p "$$found"
	  echo "== $$name for $(FUZZ_SECONDS) s"
	  "$$program" -max_total_time=$(FUZZ_SECONDS) -timeout=20 -rss_limit_mb=4096 -artifact_prefix=build/fuzz/ -print_final_stats=1 "$$found" tests/corpus/$$name 2>&1 | tail -n 8
	done

bench: packages ## kernel benchmarks (Google Benchmark; BENCH_ARGS are handed on)
	@$(call build,release) --target kvass_bench_kernels
	build/release/kvass_bench_kernels $(BENCH_ARGS)

install: build ## install the program, the library and its headers below PREFIX
	@cmake --install build/release --prefix "$(PREFIX)"

package: ## a Debian package, and a .tar.gz that runs on any Linux, in build/packages
	@$(stages)
	scripts/install-packages.sh --program --package
	stage "the program and the library"
	cmake --preset package --log-level=WARNING
	cmake --build --preset package --parallel $(JOBS) $(quiet_ninja)
	stage "the packages"
	mkdir -p build/packages
	rm -f build/packages/*
	version=$$(sed -n 's/^#define KVASS_VERSION "\(.*\)"/\1/p' include/kvass/version.h)
	(cd build/release && cpack --config CPackConfig.cmake -B $(CURDIR)/build/packages >$(CURDIR)/build/cpack.log)
	rm -rf build/packages/_CPack_Packages
	packaging/portable.sh $(KVASS) "$$version" build/packages >/dev/null
	stage "done"
	ls -l build/packages

package-arm64: ## the .tar.gz for AArch64, built here and tried under qemu
	@$(stages)
	scripts/install-packages.sh --program --package --arm
	stage "Debian's libraries for AArch64"
	packaging/arm64-sysroot.sh build/arm64-sysroot
	stage "the program"
	cmake --preset arm64-program --log-level=WARNING
	cmake --build --preset arm64-program --parallel $(JOBS) $(quiet_ninja)
	mkdir -p build/packages
	version=$$(sed -n 's/^#define KVASS_VERSION "\(.*\)"/\1/p' include/kvass/version.h)
	archive=$$(packaging/portable.sh build/arm64-program/kvass "$$version" build/packages build/arm64-sysroot)
	stage "its first tokens under qemu"
	rm -rf build/arm64-try
	mkdir build/arm64-try
	tar -C build/arm64-try --strip-components=1 -xzf "$$archive"
	lib=build/arm64-try/lib
	model=$$(scripts/fetch-model.sh $(MODEL_NAME))
	qemu-aarch64 "$$lib/ld-linux-aarch64.so.1" --library-path "$$lib" "$$lib/kvass" run "$$model" --context 64 -n 8 -p "$(DEMO_PROMPT)"
	rm -rf build/arm64-try
	stage "done"
	ls -l "$$archive"

wheels: packages ## wheels of the Python package that need no library of the system, in build/wheels
	@$(model_for_tests)
	scripts/wheels.sh

clean: ## remove build/ (not the fetched models)
	rm -rf build
