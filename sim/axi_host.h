// AXI4-Lite host: writes registers, waits for the accelerator to finish, reads registers.

#ifndef PEARRAY_AXI_HOST_H
#define PEARRAY_AXI_HOST_H

#include <cstdint>
#include <utility>
#include <vector>

namespace pearray {

struct HostPlan {
    std::vector<std::pair<uint32_t, uint32_t>> writes;  // Address and value, in order.
    uint32_t status, finished;                          // Register to watch, and bits that end the wait.
    std::vector<uint32_t> reads;                        // Addresses.
};

struct HostFromAccelerator {
    bool aw_ready, w_ready, b_valid, ar_ready, r_valid, irq;
    uint32_t b_response, r_response, r_data;
};

struct HostToAccelerator {
    bool aw_valid = false, w_valid = false, ar_valid = false, b_ready = true, r_ready = true;
    uint32_t aw_address = 0, w_data = 0, ar_address = 0;
};

// One transaction at a time. While it waits it watches the interrupt, and looks at the status
// register now and then in case the interrupt is not connected.
class Host {
public:
    explicit Host(const HostPlan& plan) : plan_(plan) {}

    HostToAccelerator out;
    uint32_t status = 0;
    std::vector<uint32_t> values;
    bool bus_error = false;

    bool started() const { return written_ == plan_.writes.size(); }
    bool finished() const { return finished_ || abandoned_; }
    bool done() const { return finished() && !busy_ && values.size() == plan_.reads.size(); }

    // Stop waiting, and go on to the reads.
    void abandon() { abandoned_ = true; }

    void sample(uint64_t cycle, const HostFromAccelerator& in) {
        if (out.aw_valid && in.aw_ready) out.aw_valid = false;
        if (out.w_valid && in.w_ready) out.w_valid = false;
        if (out.ar_valid && in.ar_ready) out.ar_valid = false;
        if (busy_ && in.b_valid) {
            busy_ = false;
            bus_error |= in.b_response != 0;
            ++written_;
        }
        if (busy_ && in.r_valid) {
            busy_ = false;
            bus_error |= in.r_response != 0;
            if (looking_) {
                status = in.r_data;
                finished_ |= (status & plan_.finished) != 0;
            } else {
                values.push_back(in.r_data);
            }
        }
        if (!busy_) next(cycle, in.irq);
    }

private:
    void next(uint64_t cycle, bool irq) {
        if (written_ < plan_.writes.size()) {
            out.aw_address = plan_.writes[written_].first;
            out.w_data = plan_.writes[written_].second;
            out.aw_valid = out.w_valid = busy_ = true;
        } else if (!finished()) {
            if (irq || cycle % 512 == 0) read(plan_.status, true);
        } else if (values.size() < plan_.reads.size()) {
            read(plan_.reads[values.size()], false);
        }
    }

    void read(uint32_t address, bool looking) {
        out.ar_address = address;
        out.ar_valid = busy_ = true;
        looking_ = looking;
    }

    HostPlan plan_;
    size_t written_ = 0;
    bool busy_ = false, looking_ = false, finished_ = false, abandoned_ = false;
};

}  // namespace pearray

#endif
