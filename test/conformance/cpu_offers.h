#pragma once

#include <fstream>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>

namespace longshadow::test {

/// The flags of the first processor in /proc/cpuinfo: what the kernel says, not what the library
/// under test finds out.
inline std::set<std::string> CpuFlags() {
  std::ifstream cpuinfo("/proc/cpuinfo");
  for (std::string line; std::getline(cpuinfo, line);) {
    if (!line.starts_with("flags")) continue;
    std::istringstream words(line.substr(line.find(':') + 1));
    std::set<std::string> flags;
    for (std::string flag; words >> flag;) flags.insert(flag);
    return flags;
  }
  return {};
}

/// Whether a value of LONGSHADOW_CPU_ISA can run here. Throws for an unknown one: a typing error
/// must not skip tests.
inline bool CpuOffers(const std::string& isa) {
  std::set<std::string> needed = {"avx2", "fma"};
  if (isa == "avx512" || isa == "avx512_bf16") {
    needed.insert({"avx512f", "avx512bw", "avx512vl", "avx512dq"});
    if (isa == "avx512_bf16") needed.insert("avx512_bf16");
  } else if (isa != "avx2") {
    throw std::invalid_argument("no such instruction set: " + isa);
  }
  const std::set<std::string> flags = CpuFlags();
  for (const std::string& flag : needed) {
    if (!flags.contains(flag)) return false;
  }
  return true;
}

}  // namespace longshadow::test
