#include "common.cuh"

extern "C" __global__ void max_pool(float *y, const float *x, unsigned *argmax, unsigned height, unsigned width,
                                    unsigned rows, unsigned cols, unsigned channels, unsigned kernel, unsigned stride,
                                    unsigned padding, unsigned dilation, unsigned count) {
    each(count, [=](unsigned i) {
        const unsigned channel = i % channels, col = i / channels % cols, row = i / channels / cols % rows;
        const float *map = x + i / channels / cols / rows * height * width * channels;
        float largest = 0.0f;
        unsigned found = 0;
        bool first = true;
        for (unsigned tap = 0; tap < kernel * kernel; ++tap) {
            // Unsigned: what is above or left of the map wraps around to beyond it.
            const unsigned top = row * stride + tap / kernel * dilation - padding;
            const unsigned left = col * stride + tap % kernel * dilation - padding;
            if (top < height && left < width) {
                const float value = map[(top * width + left) * channels + channel];
                if (first || value > largest || value != value) {
                    largest = value;
                    found = top * width + left;
                }
                first = false;
            }
        }
        y[i] = largest;
        argmax[i] = found;
    });
}

/// Each position adds up the gradients of the windows that chose it, in their order.
extern "C" __global__ void max_pool_grad(float *grad_x, const float *grad, const unsigned *argmax, unsigned height,
                                         unsigned width, unsigned rows, unsigned cols, unsigned channels, unsigned kernel,
                                         unsigned stride, unsigned padding, unsigned dilation, unsigned count) {
    each(count, [=](unsigned i) {
        const unsigned channel = i % channels, position = i / channels % (height * width);
        const unsigned image = i / channels / (height * width), reach = (kernel - 1) * dilation;
        const unsigned top = position / width + padding, left = position % width + padding;
        float sum = 0.0f;
        for (unsigned row = top > reach ? (top - reach + stride - 1) / stride : 0; row < rows && row * stride <= top; ++row) {
            for (unsigned col = left > reach ? (left - reach + stride - 1) / stride : 0; col < cols && col * stride <= left;
                 ++col) {
                const unsigned output = ((image * rows + row) * cols + col) * channels + channel;
                sum += argmax[output] == position ? grad[output] : 0.0f;
            }
        }
        grad_x[i] = sum;
    });
}
