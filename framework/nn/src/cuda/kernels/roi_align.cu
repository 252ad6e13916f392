#include "common.cuh"

/// A region, and where its weights `[bins, pixels]` of rows and of columns start.
struct Region {
    unsigned index, image, top, height, row_weights, left, width, col_weights;
};

/// A region's bins: weighted sums of rows, then of columns.
extern "C" __global__ void roi_align(float *y, const float *map, const Region *regions, const float *weights,
                                     unsigned map_height, unsigned map_width, unsigned rows, unsigned cols,
                                     unsigned channels, unsigned count) {
    each(count, [=](unsigned i) {
        const unsigned channel = i % channels, bin = i / channels % (rows * cols);
        const Region region = regions[i / channels / (rows * cols)];
        const float *of_row = weights + region.row_weights + bin / cols * region.height;
        const float *of_col = weights + region.col_weights + bin % cols * region.width;
        const float *at = map + ((region.image * map_height + region.top) * map_width + region.left) * channels + channel;
        float sum = 0.0f;
        for (unsigned col = 0; col < region.width; ++col) {
            if (of_col[col] == 0.0f) {
                continue;
            }
            float column = 0.0f;
            for (unsigned row = 0; row < region.height; ++row) {
                if (of_row[row] != 0.0f) {
                    column += of_row[row] * at[(row * map_width + col) * channels];
                }
            }
            sum += of_col[col] * column;
        }
        y[(region.index * rows * cols + bin) * channels + channel] = sum;
    });
}

/// Each pixel adds up the bins that it is part of, region by region; those of line `l` are `covering` from `starts[l]` on.
extern "C" __global__ void roi_align_grad(float *grad_map, const float *grad, const Region *regions, const float *weights,
                                          const unsigned *starts, const unsigned *covering, unsigned map_height,
                                          unsigned map_width, unsigned rows, unsigned cols, unsigned channels,
                                          unsigned count) {
    each(count, [=](unsigned i) {
        const unsigned channel = i % channels, x = i / channels % map_width, line = i / channels / map_width;
        float sum = 0.0f;
        for (unsigned at = starts[line]; at < starts[line + 1]; ++at) {
            const Region region = regions[covering[at]];
            // Unsigned: what is left of the region wraps around to beyond it.
            const unsigned left = x - region.left, top = line % map_height - region.top;
            if (left >= region.width) {
                continue;
            }
            const float *bins = grad + region.index * rows * cols * channels + channel;
            for (unsigned col = 0; col < cols; ++col) {
                const float of_col = weights[region.col_weights + col * region.width + left];
                if (of_col == 0.0f) {
                    continue;
                }
                float column = 0.0f;
                for (unsigned row = 0; row < rows; ++row) {
                    const float of_row = weights[region.row_weights + row * region.height + top];
                    if (of_row != 0.0f) {
                        column += of_row * bins[(row * cols + col) * channels];
                    }
                }
                sum += of_col * column;
            }
        }
        grad_map[i] = sum;
    });
}
