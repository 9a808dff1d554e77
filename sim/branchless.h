// Choice between two values without a branch; sim/branchless.py puts it into compiled models.

#ifndef PEARRAY_BRANCHLESS_H
#define PEARRAY_BRANCHLESS_H

#include <type_traits>

template <class A, class B>
static inline __attribute__((always_inline)) auto pearray_select(bool condition, A first, B second) {
    using Value = std::decay_t<decltype(condition ? first : second)>;
    if constexpr (std::is_integral_v<Value>) {
        const Value mask = static_cast<Value>(-static_cast<Value>(condition));
        const Value other = static_cast<Value>(second);
        return static_cast<Value>(other ^ ((static_cast<Value>(first) ^ other) & mask));
    } else {
        return condition ? first : second;
    }
}

#endif
