// What the libraries of the stand-in share.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace fakecuda {

using Clock = std::chrono::steady_clock;
using Pointer = unsigned long long; // A CUdeviceptr.

/// A variable of the environment.
std::string setting(const char *name, const char *otherwise = "");

double seconds_since(Clock::time_point start);

[[noreturn]] void die(const std::string &message);

/// With FAKECUDA_COUNT_ONLY no kernel and no product is computed: memory holds zeros but for what the host has written.
bool counts_only();

/// Counts a call for $FAKECUDA_LOG, with its amount: bytes, threads or operations.
void count(const std::string &what, double amount = 0, double seconds = 0);

/// Whether a range lies in one allocation that lives.
bool is_on_device(Pointer pointer, size_t bytes);

} // namespace fakecuda
