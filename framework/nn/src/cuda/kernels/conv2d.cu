#include "common.cuh"

/// What the positions from `first` on read of a map, `[positions, k * k, channels]`; zeros outside of it. `to` is the size of the map
/// of the positions, `from` that of the map which is read. `reverse` is 1 where the positions are the input's, and read the outputs
/// that they are part of.
extern "C" __global__ void shifted(float *rows, const float *map, unsigned to_height, unsigned to_width,
                                   unsigned from_height, unsigned from_width, unsigned channels, unsigned kernel,
                                   unsigned stride, unsigned padding, unsigned dilation, unsigned reverse,
                                   unsigned first, unsigned count) {
    // Where a tap of a side reads, or a negative number.
    const auto read = [=](unsigned position, unsigned tap, unsigned length) {
        if (!reverse) {
            const int at = int(position * stride + tap * dilation) - int(padding);
            return at < int(length) ? at : -1;
        }
        const int at = int(position + padding) - int(tap * dilation);
        return at >= 0 && at % stride == 0 && at / stride < length ? at / int(stride) : -1;
    };
    each(count, [=](unsigned i) {
        const unsigned c = i % channels, tap = i / channels % (kernel * kernel);
        const unsigned position = first + i / channels / (kernel * kernel);
        const unsigned image = position / to_width / to_height;
        const int row = read(position / to_width % to_height, tap / kernel, from_height);
        const int col = read(position % to_width, tap % kernel, from_width);
        rows[i] = row >= 0 && col >= 0 ? map[((image * from_height + row) * from_width + col) * channels + c] : 0.0f;
    });
}

/// `[O, taps, C]` from `[O, C, taps]`.
extern "C" __global__ void taps_first(float *packed, const float *weight, unsigned channels, unsigned taps,
                                      unsigned count) {
    each(count, [=](unsigned i) {
        const unsigned out_channel = i / taps / channels, channel = i / taps % channels, tap = i % taps;
        packed[(out_channel * taps + tap) * channels + channel] = weight[i];
    });
}

/// And back.
extern "C" __global__ void taps_last(float *weight, const float *packed, unsigned channels, unsigned taps,
                                     unsigned count) {
    each(count, [=](unsigned i) {
        const unsigned out_channel = i / taps / channels, channel = i / taps % channels, tap = i % taps;
        weight[i] = packed[(out_channel * taps + tap) * channels + channel];
    });
}

/// `[taps, O, C]` from `[O, C, taps]`.
extern "C" __global__ void taps_outermost(float *packed, const float *weight, unsigned channels, unsigned out_channels,
                                          unsigned taps, unsigned count) {
    each(count, [=](unsigned i) {
        const unsigned out_channel = i / taps / channels, channel = i / taps % channels, tap = i % taps;
        packed[(tap * out_channels + out_channel) * channels + channel] = weight[i];
    });
}
