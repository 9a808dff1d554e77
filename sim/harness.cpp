// Runs one job on the compiled accelerator: harness JOB OUTCOME.
//
// Both files are sequences of little-endian 64-bit integers and raw bytes; sim/verilator.py writes
// the one and reads the other, and says what stands where.

#include <array>
#include <chrono>
#include <cstdio>
#include <exception>
#include <fstream>
#include <string>

#include "Vtop.h"
#include "axi_host.h"
#include "axi_memory.h"
#include "verilated.h"

namespace pearray {

constexpr uint64_t kFormat = 2;  // Changes with the order of the files' contents.
constexpr bool kAsEmitted = PEARRAY_AS_EMITTED;

enum Result : uint64_t { kDone = 0, kTooLong = 1, kQuiet = 2, kProtocol = 3 };

class Reader {
public:
    explicit Reader(const char* path) : file_(path, std::ios::binary) {}
    uint64_t number() {
        uint64_t value = 0;
        bytes(reinterpret_cast<uint8_t*>(&value), sizeof value);
        return value;
    }
    void bytes(uint8_t* to, uint64_t length) {
        if (!file_.read(reinterpret_cast<char*>(to), static_cast<std::streamsize>(length)))
            throw std::runtime_error("the job file is too short");
    }

private:
    std::ifstream file_;
};

class Writer {
public:
    explicit Writer(const char* path) : file_(path, std::ios::binary) {}
    void number(uint64_t value) { bytes(reinterpret_cast<uint8_t*>(&value), sizeof value); }
    void bytes(const uint8_t* from, uint64_t length) {
        file_.write(reinterpret_cast<const char*>(from), static_cast<std::streamsize>(length));
    }
    void close() {
        file_.close();
        if (!file_) throw std::runtime_error("cannot write the outcome file");
    }

private:
    std::ofstream file_;
};

struct Job {
    MemoryOptions memory;
    uint64_t max_cycles, quiet_cycles;
    bool trace;
    HostPlan host;
    std::vector<std::pair<uint64_t, uint64_t>> regions;
};

Job read_job(Reader& file, SparseMemory& memory) {
    if (file.number() != kFormat) throw std::runtime_error("the job file has another format");
    Job job;
    job.max_cycles = file.number();
    job.quiet_cycles = file.number();
    job.trace = file.number() != 0;
    for (uint64_t* option : {&job.memory.read_latency, &job.memory.write_latency, &job.memory.outstanding,
                             &job.memory.budget, &job.memory.stall, &job.memory.seed, &job.memory.read_error,
                             &job.memory.write_error, &job.memory.hang, &job.memory.error_code})
        *option = file.number();
    job.host.status = static_cast<uint32_t>(file.number());
    job.host.finished = static_cast<uint32_t>(file.number());
    for (uint64_t left = file.number(); left; --left) {
        const uint32_t address = static_cast<uint32_t>(file.number());
        job.host.writes.emplace_back(address, static_cast<uint32_t>(file.number()));
    }
    for (uint64_t left = file.number(); left; --left)
        job.host.reads.push_back(static_cast<uint32_t>(file.number()));
    for (uint64_t left = file.number(); left; --left) {
        const uint64_t address = file.number();
        job.regions.emplace_back(address, file.number());
    }
    for (uint64_t left = file.number(); left; --left) {
        const uint64_t address = file.number(), length = file.number();
        memory.each_page(address, length, [&](uint8_t* to, uint64_t, uint64_t size) { file.bytes(to, size); });
    }
    return job;
}

// What the design's trace port said: cycles by cause between marks, and, if wanted, all of it with what moved on the bus.
struct Trace {
    using Counts = std::array<uint64_t, 16>;
    std::vector<Counts> intervals{Counts{}};
    // Cycle and signals where they change, as pearray.sim.trace reads them; address, beats and direction of each burst.
    std::vector<std::pair<uint64_t, uint64_t>> changes;
    std::vector<std::array<uint32_t, 3>> bursts;

    // A design without the port says nothing.
    template <class Top>
    void note(const Top& top, uint64_t cycle, const ToAccelerator& bus, const FromAccelerator& in, bool all) {
        if constexpr (requires { top.trace_cause; }) {
            if (top.trace_mark) intervals.push_back({});
            ++intervals.back()[top.trace_cause];
            if (all) {
                const bool ar = in.ar_valid && bus.ar_ready, aw = in.aw_valid && bus.aw_ready;
                const bool r = bus.r_valid && in.r_ready, w = in.w_valid && bus.w_ready;
                const uint64_t moved = uint64_t{ar} | uint64_t{r} << 1 | uint64_t{r && bus.r_last} << 2 | uint64_t{aw} << 3
                    | uint64_t{w} << 4 | uint64_t{w && in.w_last} << 5 | uint64_t{bus.b_valid && in.b_ready} << 6;
                const uint64_t said = uint64_t{top.trace_cause} | moved << 8 | uint64_t{top.trace_open} << 16
                    | uint64_t{top.trace_take} << 24 | uint64_t{top.trace_done} << 32;
                if (changes.empty() || changes.back().second != said) changes.emplace_back(cycle, said);
                if (ar) bursts.push_back({in.ar.address, in.ar.length + 1, 0});
                if (aw) bursts.push_back({in.aw.address, in.aw.length + 1, 1});
            }
        }
    }
};

// The top level with its clock: one call of `cycle` is one clock cycle.
//
// Inputs pass through registers (sim/sampled.py): those set before an edge belong to the cycle after
// it, like the state that the edge brings about. So outputs can be read behind the edge. With the text as
// it was emitted, inputs are set behind the edge, and a second evaluation finds what depends on them.
class Simulation {
public:
    Simulation(SparseMemory& memory, const Job& job) : memory_(memory, job.memory), host_(job.host), job_(job) {
        top_.rst = 1;
        for (int cycle = 0; cycle < 4; ++cycle) edge();
    }

    Result run() {
        Result result = kDone;
        uint64_t limit = job_.max_cycles;
        auto shown = std::chrono::steady_clock::now();
        while (!host_.done()) {
            cycle();
            ++now;
            if (result == kDone && !host_.finished()) {
                if (now >= limit) result = kTooLong;
                else if (now - memory_.last_activity() >= job_.quiet_cycles) result = kQuiet;
                if (result != kDone) {
                    host_.abandon();
                    limit = now + 10'000;
                }
            } else if (result != kDone && now >= limit) {
                break;  // Not even its registers answer.
            }
            if (now % 4096 == 0) {
                const auto clock = std::chrono::steady_clock::now();
                if (clock - shown > std::chrono::milliseconds(100)) {
                    shown = clock;
                    std::printf("%llu\n", static_cast<unsigned long long>(now));
                    std::fflush(stdout);
                }
            }
        }
        note_bursts();
        return result;
    }

    // Address and beats of each burst that was in flight when the accelerator said that it is done, or was stopped.
    using Bursts = std::vector<std::pair<uint32_t, uint32_t>>;
    const Bursts& reads() const { return reads_; }
    const Bursts& writes() const { return writes_; }

    void finish() { top_.final(); }
    const AxiMemory& memory() const { return memory_; }
    const Host& host() const { return host_; }
    const Trace& trace() const { return trace_; }
    uint64_t now = 0;

private:
    void note_bursts() {
        if (ended_) return;
        ended_ = true;
        for (const Burst& burst : memory_.reads()) reads_.emplace_back(burst.address, burst.beats);
        for (const Burst& burst : memory_.writes()) writes_.emplace_back(burst.address, burst.beats);
    }

    void edge() {
#if PEARRAY_RESTING
        // Clocks of modules that rest go only where they must (sim/resting.py).
        const auto awake = top_.resting_awake;
        top_.resting_clock = 0;
#endif
        top_.clk = 0;
        top_.eval();
#if PEARRAY_RESTING
        top_.resting_clock = awake;
#endif
        top_.clk = 1;
        top_.eval();
    }

    void cycle() {
        const ToAccelerator& bus = memory_.drive(now);
        if (kAsEmitted) edge();
        top_.rst = 0;
        top_.m_axi_arready = bus.ar_ready;
        top_.m_axi_rvalid = bus.r_valid;
        top_.m_axi_rlast = bus.r_last;
        top_.m_axi_rid = bus.r_id;
        top_.m_axi_rresp = bus.r_response;
        if (bus.r_valid) std::memcpy(&top_.m_axi_rdata, bus.r_data.data(), kBeatBytes);
        top_.m_axi_awready = bus.aw_ready;
        top_.m_axi_wready = bus.w_ready;
        top_.m_axi_bvalid = bus.b_valid;
        top_.m_axi_bid = bus.b_id;
        top_.m_axi_bresp = bus.b_response;
        top_.s_axi_awvalid = host_.out.aw_valid;
        top_.s_axi_awaddr = host_.out.aw_address;
        top_.s_axi_wvalid = host_.out.w_valid;
        top_.s_axi_wdata = host_.out.w_data;
        top_.s_axi_wstrb = 0xF;
        top_.s_axi_bready = host_.out.b_ready;
        top_.s_axi_arvalid = host_.out.ar_valid;
        top_.s_axi_araddr = host_.out.ar_address;
        top_.s_axi_rready = host_.out.r_ready;
        if (kAsEmitted) {
            top_.clk = 0;
            top_.eval();
        } else {
            edge();
        }

        const FromAccelerator in{
            .ar_valid = top_.m_axi_arvalid != 0, .r_ready = top_.m_axi_rready != 0,
            .aw_valid = top_.m_axi_awvalid != 0, .w_valid = top_.m_axi_wvalid != 0,
            .w_last = top_.m_axi_wlast != 0, .b_ready = top_.m_axi_bready != 0,
            .ar = {top_.m_axi_araddr, top_.m_axi_arlen, top_.m_axi_arsize, top_.m_axi_arburst, top_.m_axi_arid},
            .aw = {top_.m_axi_awaddr, top_.m_axi_awlen, top_.m_axi_awsize, top_.m_axi_awburst, top_.m_axi_awid},
            .w_data = reinterpret_cast<const uint8_t*>(&top_.m_axi_wdata),
            .w_strobe = static_cast<uint64_t>(top_.m_axi_wstrb),
        };
        const HostFromAccelerator lite{
            .aw_ready = top_.s_axi_awready != 0, .w_ready = top_.s_axi_wready != 0,
            .b_valid = top_.s_axi_bvalid != 0, .ar_ready = top_.s_axi_arready != 0,
            .r_valid = top_.s_axi_rvalid != 0, .irq = top_.irq != 0,
            .b_response = top_.s_axi_bresp, .r_response = top_.s_axi_rresp, .r_data = top_.s_axi_rdata,
        };
        trace_.note(top_, now, bus, in, job_.trace);
        memory_.sample(now, in);
        host_.sample(now, lite);
        if (lite.irq) note_bursts();
    }

    Vtop top_;
    AxiMemory memory_;
    Host host_;
    const Job& job_;
    Trace trace_;
    Bursts reads_, writes_;
    bool ended_ = false;
};

void write_bursts(Writer& file, const Simulation::Bursts& bursts) {
    file.number(bursts.size());
    for (const auto& [address, beats] : bursts) {
        file.number(address);
        file.number(beats);
    }
}

void write_trace(Writer& file, const Trace& trace) {
    file.number(trace.intervals.size());
    for (const Trace::Counts& counts : trace.intervals)
        for (uint64_t count : counts) file.number(count);
    file.number(trace.changes.size());
    for (const auto& [cycle, said] : trace.changes) {
        file.number(cycle);
        file.number(said);
    }
    file.number(trace.bursts.size());
    for (const auto& burst : trace.bursts)
        for (uint32_t value : burst) file.number(value);
}

void run(const char* job_path, const char* outcome_path) {
    SparseMemory memory;
    Reader reader(job_path);
    const Job job = read_job(reader, memory);
    Simulation simulation(memory, job);
    std::string message;
    Result result = kProtocol;
    const auto begin = std::chrono::steady_clock::now();
    try {
        result = simulation.run();
    } catch (const std::exception& violation) {
        message = violation.what();
    }
    const auto end = std::chrono::steady_clock::now();
    simulation.finish();

    Writer file(outcome_path);
    file.number(kFormat);
    file.number(result);
    file.number(simulation.now);
    file.number(static_cast<uint64_t>(std::chrono::nanoseconds(end - begin).count()));
    file.number(simulation.host().started());
    file.number(simulation.host().bus_error);
    file.number(simulation.host().status);
    file.number(simulation.memory().read_beats);
    file.number(simulation.memory().write_beats);
    file.number(message.size());
    file.bytes(reinterpret_cast<const uint8_t*>(message.data()), message.size());
    file.number(simulation.host().values.size());
    for (uint32_t value : simulation.host().values) file.number(value);
    write_bursts(file, simulation.reads());
    write_bursts(file, simulation.writes());
    write_trace(file, simulation.trace());
    for (const auto& [address, length] : job.regions)
        memory.each_page(address, length, [&](uint8_t* from, uint64_t, uint64_t size) { file.bytes(from, size); });
    file.close();
}

}  // namespace pearray

// Called at a broken rule; what it says stands in that line of the rules.
void vl_stop(const char*, int line, const char*) { throw std::runtime_error("rule " + std::to_string(line)); }

int main(int argc, char** argv) {
    if (argc != 3) {
        std::fprintf(stderr, "usage: %s JOB OUTCOME\n", argv[0]);
        return 2;
    }
    try {
        pearray::run(argv[1], argv[2]);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    return 0;
}
