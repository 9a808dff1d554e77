// AXI4 memory model: bursts in order, with latency, a limit of bursts in flight, and a beat budget.
//
// Timing, in clock cycles. A read address taken in cycle t has its first beat offered in cycle
// t + read_latency, or right behind the burst before it. A write whose last beat and address have
// been taken by cycle t has its response offered in cycle t + write_latency. Each way at most
// `outstanding` bursts are in flight, from their address to their last beat or response. Each
// channel moves one item a cycle. A budget below one beat a cycle is shared by reads and writes.
//
// Writes become visible to reads with their response, as late as AXI allows. Bytes that were never
// written read as 0xA5, so that nothing can rely on memory being cleared.

#ifndef PEARRAY_AXI_MEMORY_H
#define PEARRAY_AXI_MEMORY_H

#include <array>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace pearray {

constexpr uint32_t kBeatBytes = PEARRAY_BEAT_BYTES;
constexpr uint64_t kNever = ~uint64_t{0};
constexpr uint8_t kFill = 0xA5;

struct MemoryOptions {
    uint64_t read_latency, write_latency, outstanding;
    uint64_t budget;       // Beats a cycle in units of 2^-32; 2^32 and more is no limit.
    uint64_t stall;        // Probability that a channel stalls in a cycle, in units of 2^-32.
    uint64_t seed;
    uint64_t read_error;   // A read beat that covers this address answers with an error.
    uint64_t write_error;  // So does a write burst that covers this one.
    uint64_t hang;         // A burst that covers this address is never answered.
    uint64_t error_code;   // 2 is SLVERR, 3 is DECERR.
};

// Byte-addressed 4 GB whose pages exist once they are touched.
class SparseMemory {
public:
    uint8_t* at(uint32_t address) {
        auto& page = pages_[address / kPageBytes];
        if (!page) {
            page = std::make_unique<uint8_t[]>(kPageBytes);
            std::memset(page.get(), kFill, kPageBytes);
        }
        return page.get() + address % kPageBytes;
    }

    template <class Copy> void each_page(uint64_t address, uint64_t length, Copy copy) {
        for (uint64_t done = 0; done < length;) {
            const uint64_t left = kPageBytes - (address + done) % kPageBytes;
            const uint64_t size = left < length - done ? left : length - done;
            copy(at(static_cast<uint32_t>(address + done)), done, size);
            done += size;
        }
    }

private:
    static constexpr uint32_t kPageBytes = 1 << 16;
    std::vector<std::unique_ptr<uint8_t[]>> pages_{1 << 16};
};

using Beat = std::array<uint8_t, kBeatBytes>;

// The address, as the accelerator gives it on AR or AW.
struct Address {
    uint32_t address, length, size, burst, id;
    bool operator==(const Address&) const = default;
};

struct Burst {
    uint32_t address, beats, id;
    uint64_t due;    // Cycle of the first beat or of the response; kNever while it is unknown.
    uint32_t moved;  // Beats that have been transferred.
    std::vector<std::pair<Beat, uint64_t>> data;  // Written beats and their strobes.

    uint32_t beat_address(uint32_t beat) const {
        return beat ? address / kBeatBytes * kBeatBytes + beat * kBeatBytes : address;
    }
    bool covers(uint64_t target) const {
        return target >= address / kBeatBytes * kBeatBytes
            && target < uint64_t{address} / kBeatBytes * kBeatBytes + uint64_t{beats} * kBeatBytes;
    }
};

// What the accelerator drives, sampled before the clock edge.
struct FromAccelerator {
    bool ar_valid, r_ready, aw_valid, w_valid, w_last, b_ready;
    Address ar, aw;
    const uint8_t* w_data;
    uint64_t w_strobe;
};

// What the memory drives for one cycle.
struct ToAccelerator {
    bool ar_ready = false, r_valid = false, r_last = false, aw_ready = false, w_ready = false, b_valid = false;
    uint32_t r_id = 0, r_response = 0, b_id = 0, b_response = 0;
    Beat r_data{};
};

class AxiMemory {
public:
    AxiMemory(SparseMemory& memory, const MemoryOptions& options)
        : memory_(memory), options_(options), random_(options.seed * 2 + 1) {}

    // Decide what to drive in this cycle. A valid beat or response stays until it is taken.
    const ToAccelerator& drive(uint64_t cycle) {
        credit_ += options_.budget;
        if (credit_ > 2 * kOne) credit_ = 2 * kOne;
        const bool limited = options_.budget < kOne;
        out_.ar_ready = reads_.size() < options_.outstanding && !stalls();
        out_.aw_ready = writes_.size() < options_.outstanding && !stalls();
        out_.w_ready = early_.size() < 256 && !stalls();
        // A write that waits goes before a read if a read went last; else reads go first.
        const bool reserved = limited && out_.w_ready && w_waited_ && read_was_last_ && credit_ >= kOne;
        if (!out_.r_valid && !reads_.empty() && cycle >= reads_.front().due && !stalls()
            && (!limited || credit_ >= (reserved ? 2 * kOne : kOne))) {
            offer_read();
            if (limited) credit_ -= kOne;
            read_was_last_ = true;
        }
        if (limited) out_.w_ready &= credit_ >= kOne;
        if (!out_.b_valid && !writes_.empty() && cycle >= writes_.front().due && !stalls()) offer_response();
        return out_;
    }

    // Take what is transferred in this cycle.
    void sample(uint64_t cycle, const FromAccelerator& in) {
        if (in.ar_valid) check(held_ar_, in.ar, "AR");
        if (held_ar_.second && !in.ar_valid) fail("m_axi_arvalid fell before m_axi_arready");
        held_ar_ = {in.ar, in.ar_valid && !out_.ar_ready};
        if (in.aw_valid) check(held_aw_, in.aw, "AW");
        if (held_aw_.second && !in.aw_valid) fail("m_axi_awvalid fell before m_axi_awready");
        held_aw_ = {in.aw, in.aw_valid && !out_.aw_ready};
        if (in.ar_valid && out_.ar_ready) {
            reads_.push_back(burst(in.ar, "AR"));
            reads_.back().due = reads_.back().covers(options_.hang) ? kNever : cycle + options_.read_latency;
            last_activity_ = cycle;
        }
        if (in.aw_valid && out_.aw_ready) {
            writes_.push_back(burst(in.aw, "AW"));
            last_activity_ = cycle;
        }
        if (out_.r_valid && in.r_ready) {
            out_.r_valid = false;
            last_activity_ = cycle;
            ++read_beats;
            if (out_.r_last) reads_.pop_front();
            else ++reads_.front().moved;
        }
        take_write(cycle, in);
        if (out_.b_valid && in.b_ready) {
            out_.b_valid = false;
            last_activity_ = cycle;
            writes_.pop_front();
        }
    }

    const std::deque<Burst>& reads() const { return reads_; }
    const std::deque<Burst>& writes() const { return writes_; }
    uint64_t last_activity() const { return last_activity_; }
    uint64_t read_beats = 0, write_beats = 0;

private:
    static constexpr uint64_t kOne = uint64_t{1} << 32;

    [[noreturn]] static void fail(const std::string& text) { throw std::runtime_error(text); }

    static void check(const std::pair<Address, bool>& held, const Address& now, const char* channel) {
        if (held.second && !(held.first == now)) fail(std::string(channel) + " changed before it was taken");
    }

    bool stalls() {
        if (!options_.stall) return false;
        random_ ^= random_ << 13;
        random_ ^= random_ >> 7;
        random_ ^= random_ << 17;
        return (random_ >> 16 & 0xFFFFFFFF) < options_.stall;
    }

    static Burst burst(const Address& in, const char* channel) {
        if (in.burst != 1) fail(std::string(channel) + " burst type is not INCR");
        if (1u << in.size != kBeatBytes) fail(std::string(channel) + " size is not the width of the bus");
        const uint32_t first = in.address / kBeatBytes * kBeatBytes;
        if (first / 4096 != (first + in.length * kBeatBytes) / 4096)
            fail(std::string(channel) + " burst crosses a 4 KB boundary");
        return {in.address, in.length + 1, in.id, kNever, 0, {}};
    }

    void offer_read() {
        const Burst& front = reads_.front();
        const uint32_t address = front.beat_address(front.moved) / kBeatBytes * kBeatBytes;
        std::memcpy(out_.r_data.data(), memory_.at(address), kBeatBytes);
        const bool error = options_.read_error >= address && options_.read_error < uint64_t{address} + kBeatBytes;
        out_.r_valid = true;
        out_.r_last = front.moved + 1 == front.beats;
        out_.r_id = front.id;
        out_.r_response = error ? static_cast<uint32_t>(options_.error_code) : 0;
    }

    void offer_response() {
        const Burst& front = writes_.front();
        const bool error = front.covers(options_.write_error);
        for (uint32_t beat = 0; !error && beat < front.beats; ++beat) {
            uint8_t* place = memory_.at(front.beat_address(beat) / kBeatBytes * kBeatBytes);
            const auto& [data, strobe] = front.data[beat];
            for (uint32_t lane = 0; lane < kBeatBytes; ++lane)
                if (strobe >> lane & 1) place[lane] = data[lane];
        }
        out_.b_valid = true;
        out_.b_id = front.id;
        out_.b_response = error ? static_cast<uint32_t>(options_.error_code) : 0;
    }

    void take_write(uint64_t cycle, const FromAccelerator& in) {
        w_waited_ = in.w_valid && !out_.w_ready;
        if (in.w_valid && out_.w_ready) {
            if (options_.budget < kOne) credit_ -= kOne;
            read_was_last_ = false;
            last_activity_ = cycle;
            ++write_beats;
            Beat beat;
            std::memcpy(beat.data(), in.w_data, kBeatBytes);
            early_.push_back({beat, in.w_strobe, in.w_last});
        }
        // Beats may come before their address. Only the newest bursts can lack beats.
        for (auto burst = writes_.begin(); burst != writes_.end() && !early_.empty(); ++burst) {
            while (burst->data.size() < burst->beats && !early_.empty()) {
                const auto& [beat, strobe, last] = early_.front();
                burst->data.emplace_back(beat, strobe);
                if (last != (burst->data.size() == burst->beats)) fail("m_axi_wlast is not on the last beat");
                early_.pop_front();
                if (burst->data.size() == burst->beats)
                    burst->due = burst->covers(options_.hang) ? kNever : cycle + options_.write_latency;
            }
        }
    }

    struct EarlyBeat {
        Beat data;
        uint64_t strobe;
        bool last;
    };

    SparseMemory& memory_;
    MemoryOptions options_;
    ToAccelerator out_;
    std::deque<Burst> reads_, writes_;
    std::deque<EarlyBeat> early_;
    std::pair<Address, bool> held_ar_{}, held_aw_{};
    uint64_t credit_ = 0, random_, last_activity_ = 0;
    bool w_waited_ = false, read_was_last_ = false;
};

}  // namespace pearray

#endif
