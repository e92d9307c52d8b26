// Large aligned arrays on huge pages: a song's weights are read from end to end, and 4 kB pages cost a tenth of that.
#pragma once

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <new>
#include <type_traits>

namespace snn {

template <class T>
class Array {
    static_assert(std::is_trivial_v<T>, "an Array is zeroed memory");

  public:
    Array() = default;
    explicit Array(size_t count) {
        const size_t align = count * sizeof(T) >= HUGE_PAGE ? HUGE_PAGE : 64;
        const size_t bytes = (count * sizeof(T) + align) / align * align;
        data_ = static_cast<T*>(std::aligned_alloc(align, bytes));
        if (data_ == nullptr) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
        if (align == HUGE_PAGE) madvise(data_, bytes, MADV_HUGEPAGE);  // advice: without it, only slower
#endif
        std::memset(static_cast<void*>(data_), 0, bytes);
    }
    Array(Array&& other) noexcept : data_(other.data_) { other.data_ = nullptr; }
    Array& operator=(Array&& other) noexcept {
        std::swap(data_, other.data_);
        return *this;
    }
    ~Array() { std::free(data_); }

    T* get() const { return data_; }
    T& operator[](size_t i) const { return data_[i]; }

  private:
    static constexpr size_t HUGE_PAGE = size_t{1} << 21;
    T* data_ = nullptr;
};

}  // namespace snn
