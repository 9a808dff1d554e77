// Drives the memory model without any hardware: memory_timing READ_BURSTS WRITE_BURSTS BEATS
// READ_LATENCY WRITE_LATENCY OUTSTANDING BUDGET STALL. Prints the cycle of every transfer as
// "channel cycle", for a master that always offers and always takes.

#include <cstdio>
#include <cstdlib>

#include "axi_memory.h"

using namespace pearray;

int main(int, char** argv) {
    auto number = [&](int index) { return std::strtoull(argv[index], nullptr, 0); };
    const uint64_t read_bursts = number(1), write_bursts = number(2), beats = number(3);
    SparseMemory storage;
    AxiMemory memory(storage, {.read_latency = number(4), .write_latency = number(5), .outstanding = number(6),
                               .budget = number(7), .stall = number(8), .seed = 1, .read_error = kNever,
                               .write_error = kNever, .hang = kNever, .error_code = 2});
    uint32_t size = 0;
    while (1u << size != kBeatBytes) ++size;
    uint64_t ar = 0, aw = 0, w = 0, r = 0, b = 0;
    uint8_t data[kBeatBytes];
    for (uint64_t cycle = 0; cycle < 100000 && (r < read_bursts * beats || b < write_bursts); ++cycle) {
        const ToAccelerator bus = memory.drive(cycle);
        for (uint32_t lane = 0; lane < kBeatBytes; ++lane) data[lane] = static_cast<uint8_t>(w + lane);
        const auto burst = static_cast<uint32_t>(beats);
        const FromAccelerator in{
            .ar_valid = ar < read_bursts, .r_ready = true, .aw_valid = aw < write_bursts,
            .w_valid = w < write_bursts * beats, .w_last = w % beats == beats - 1, .b_ready = true,
            .ar = {static_cast<uint32_t>(ar) * burst * kBeatBytes, burst - 1, size, 1, 0},
            .aw = {0x100000 + static_cast<uint32_t>(aw) * burst * kBeatBytes, burst - 1, size, 1, 0},
            .w_data = data, .w_strobe = ~uint64_t{0},
        };
        auto show = [&](const char* channel, bool moved, uint64_t& count) {
            if (!moved) return;
            ++count;
            std::printf("%s %llu\n", channel, static_cast<unsigned long long>(cycle));
        };
        show("ar", in.ar_valid && bus.ar_ready, ar);
        show("r", bus.r_valid, r);
        show("aw", in.aw_valid && bus.aw_ready, aw);
        show("w", in.w_valid && bus.w_ready, w);
        show("b", bus.b_valid, b);
        memory.sample(cycle, in);
    }
    // The first written beat must have arrived.
    if (write_bursts)
        for (uint32_t lane = 0; lane < kBeatBytes; ++lane)
            if (*storage.at(0x100000 + lane) != lane) return 1;
    return 0;
}
