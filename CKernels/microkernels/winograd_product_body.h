// Winograd's two matrix products, one pair of operands a point. Register tiles as in tile_body.h, but on operands as
// the transforms leave them.

/// One register tile of `multiply`: `rows` tiles x `vectors` vectors of outputs.
PF_INLINE void product(const int32_t rows, const int32_t vectors, int64_t channels, const float *input,
                       int64_t block_stride, const float *weight, float *result, bool resume) {
  const int64_t width = vectors * PF_LANES;
  vector sum[PF_TILE_ROWS][PF_TILE_VECTORS];
  PF_UNROLL for (int32_t r = 0; r < rows; ++r) {
    PF_UNROLL for (int32_t v = 0; v < vectors; ++v) {
      sum[r][v] = resume ? load(result + r * width + v * PF_LANES) : broadcast(0);
    }
  }
  for (int64_t channel = 0; channel < channels; channel += PF_LANES, input += block_stride) {
    const int64_t count = channels - channel < PF_LANES ? channels - channel : PF_LANES;
    for (int64_t c = 0; c < count; ++c, weight += width) {
      vector x[PF_TILE_VECTORS];
      PF_UNROLL for (int32_t v = 0; v < vectors; ++v) x[v] = load(weight + v * PF_LANES);
      PF_UNROLL for (int32_t r = 0; r < rows; ++r) {
        const vector y = broadcast(input[r * PF_LANES + c]);
        PF_UNROLL for (int32_t v = 0; v < vectors; ++v) sum[r][v] = multiply_add(x[v], y, sum[r][v]);
      }
    }
  }
  PF_UNROLL for (int32_t r = 0; r < rows; ++r) {
    PF_UNROLL for (int32_t v = 0; v < vectors; ++v) store(result + r * width + v * PF_LANES, sum[r][v]);
  }
}

/// One register tile of `multiply_transposed`: `rows` channels x `vectors` vectors of outputs. Hardware prefetchers
/// make little of the strides, so this asks for what comes next, `ahead` of the operands, and for the sums it adds to;
/// but not with a single vector, where operands are small and loads are what takes the time.
PF_INLINE void product_transposed(const int32_t rows, const int32_t vectors, int64_t tiles, const float *input,
                                  int64_t input_stride, int64_t input_ahead, const float *gradient,
                                  int64_t gradient_stride, int64_t gradient_ahead, float *result, bool accumulate) {
  const int64_t width = vectors * PF_LANES;
  vector sum[PF_TILE_ROWS][PF_TILE_VECTORS];
  PF_UNROLL for (int32_t r = 0; r < rows; ++r) {
    PF_UNROLL for (int32_t v = 0; v < vectors; ++v) {
      if (vectors > 1) __builtin_prefetch(result + r * width + v * PF_LANES, 1, 3);
      sum[r][v] = broadcast(0);
    }
  }
  for (int64_t t = 0; t < tiles; ++t, input += input_stride, gradient += gradient_stride) {
    if (vectors > 1) __builtin_prefetch(input + input_ahead, 0, 2);
    vector x[PF_TILE_VECTORS];
    PF_UNROLL for (int32_t v = 0; v < vectors; ++v) {
      if (vectors > 1) __builtin_prefetch(gradient + gradient_ahead + v * PF_LANES, 0, 2);
      x[v] = load(gradient + v * PF_LANES);
    }
    PF_UNROLL for (int32_t r = 0; r < rows; ++r) {
      const vector y = broadcast(input[r]);
      PF_UNROLL for (int32_t v = 0; v < vectors; ++v) sum[r][v] = multiply_add(x[v], y, sum[r][v]);
    }
  }
  PF_UNROLL for (int32_t r = 0; r < rows; ++r) {
    PF_UNROLL for (int32_t v = 0; v < vectors; ++v) {
      float *address = result + r * width + v * PF_LANES;
      store(address, accumulate ? load(address) + sum[r][v] : sum[r][v]);
    }
  }
}

/// Calls tile(rows, vectors, ...) with constant arguments; rows is 1 ... PF_TILE_ROWS, vectors 1 ... PF_TILE_VECTORS.
#define PF_WITH_ROWS(tile, rows, vectors, ...)               \
  switch (rows) {                                            \
    case 1: tile(1, vectors, __VA_ARGS__); break;            \
    case 2: tile(2, vectors, __VA_ARGS__); break;            \
    case 3: tile(3, vectors, __VA_ARGS__); break;            \
    case 4: tile(4, vectors, __VA_ARGS__); break;            \
    PF_WITH_ROWS_TO_6(tile, vectors, __VA_ARGS__)            \
    PF_WITH_ROWS_TO_8(tile, vectors, __VA_ARGS__)            \
    PF_WITH_ROWS_TO_14(tile, vectors, __VA_ARGS__)           \
    default: __builtin_unreachable();                        \
  }
#if PF_TILE_ROWS >= 6
#define PF_WITH_ROWS_TO_6(tile, vectors, ...)     \
  case 5: tile(5, vectors, __VA_ARGS__); break;   \
  case 6: tile(6, vectors, __VA_ARGS__); break;
#else
#define PF_WITH_ROWS_TO_6(tile, vectors, ...)
#endif
#if PF_TILE_ROWS >= 8
#define PF_WITH_ROWS_TO_8(tile, vectors, ...)     \
  case 7: tile(7, vectors, __VA_ARGS__); break;   \
  case 8: tile(8, vectors, __VA_ARGS__); break;
#else
#define PF_WITH_ROWS_TO_8(tile, vectors, ...)
#endif
#if PF_TILE_ROWS >= 14
#define PF_WITH_ROWS_TO_14(tile, vectors, ...)    \
  case 9: tile(9, vectors, __VA_ARGS__); break;   \
  case 10: tile(10, vectors, __VA_ARGS__); break; \
  case 11: tile(11, vectors, __VA_ARGS__); break; \
  case 12: tile(12, vectors, __VA_ARGS__); break; \
  case 13: tile(13, vectors, __VA_ARGS__); break; \
  case 14: tile(14, vectors, __VA_ARGS__); break;
#else
#define PF_WITH_ROWS_TO_14(tile, vectors, ...)
#endif

static void multiply(int64_t points, const uint8_t *weight_of, int64_t tiles, int64_t channels,
                     const pf_winograd_tiles *input, const pf_winograd_block *weight, const pf_winograd_block *result,
                     bool resume) {
  const int64_t vectors = weight->width / PF_LANES;
  const int64_t pieces = (tiles + PF_TILE_ROWS - 1) / PF_TILE_ROWS;
  for (int64_t p = 0; p < points; ++p) {
    const float *point_weight = weight->data + weight_of[p] * weight->point_stride;
    for (int64_t piece = 0, t = 0; piece < pieces; ++piece) {
      const int64_t rows = (tiles - t) / (pieces - piece);
      const float *point_input = input->data + p * input->point_stride + t * PF_LANES;
      float *point_result = result->data + p * result->point_stride + t * weight->width;
      t += rows;
#define PF_PRODUCT(vectors)                                                                                  \
  PF_WITH_ROWS(product, rows, vectors, channels, point_input, input->block_stride, point_weight, point_result, resume)
      if (vectors == 1) {
        PF_PRODUCT(1)
      } else if (vectors == 2) {
        PF_PRODUCT(2)
      }
#if PF_TILE_VECTORS == 3
      else {
        PF_PRODUCT(3)
      }
#endif
#undef PF_PRODUCT
    }
  }
}

static void multiply_transposed(int64_t points, int64_t tiles, int64_t channels, const pf_winograd_tiles *input,
                                const pf_winograd_tiles *gradient, const pf_winograd_block *result, bool accumulate) {
  const int64_t vectors = result->width / PF_LANES;
  const int64_t pieces = (channels + PF_TILE_ROWS - 1) / PF_TILE_ROWS;
  // The next point comes next, or after a single one, the next tiles.
  const int64_t input_ahead = points == 1 ? tiles * input->tile_stride : input->point_stride;
  const int64_t gradient_ahead = points == 1 ? tiles * gradient->tile_stride : gradient->point_stride;
  for (int64_t p = 0; p < points; ++p) {
    const float *point_gradient = gradient->data + p * gradient->point_stride;
    for (int64_t piece = 0, c = 0; piece < pieces; ++piece) {
      const int64_t rows = (channels - c) / (pieces - piece);
      const float *point_input = input->data + p * input->point_stride + c;
      float *point_result = result->data + p * result->point_stride + c * result->width;
      c += rows;
#define PF_PRODUCT(vectors)                                                                                        \
  PF_WITH_ROWS(product_transposed, rows, vectors, tiles, point_input, input->tile_stride, input_ahead,             \
               point_gradient, gradient->tile_stride, gradient_ahead, point_result, accumulate)
      if (vectors == 1) {
        PF_PRODUCT(1)
      } else if (vectors == 2) {
        PF_PRODUCT(2)
      }
#if PF_TILE_VECTORS == 3
      else {
        PF_PRODUCT(3)
      }
#endif
#undef PF_PRODUCT
    }
  }
}
#undef PF_WITH_ROWS
#undef PF_WITH_ROWS_TO_6
#undef PF_WITH_ROWS_TO_8
#undef PF_WITH_ROWS_TO_14

/// Each point has its own weights, but with stride 2 plain products share one along an axis of `height` or `width` > 1
/// outputs; and tiles of 3 outputs do without the first.
static void assign_weights(int32_t height, int32_t width, pf_winograd_kernels *kernels) {
  for (int32_t i = 0, p = 0; i < strided_points(height); ++i) {
    for (int32_t j = 0; j < strided_points(width); ++j, ++p) {
      const int32_t y = height == 1 ? 0 : i + strided_tile - height, x = j + strided_tile - width;
      const int32_t plain = strided_tile + 1, row = y < plain ? y : plain, column = x < plain ? x : plain;
      kernels->weight_of[p] = (uint8_t)(row * (plain + 1) + column);
    }
  }
}

#define PF_WINOGRAD_ENTER(table, name, points_y, points_x, kernel_taps)                                        \
  kernels->table = (pf_winograd_kernels){                                                                     \
      .points = points_y * points_x,                                                                          \
      .weights = points_y * points_x,                                                                         \
      .taps = kernel_taps,                                                                                    \
      .rows = PF_TILE_ROWS,                                                                                   \
      .vectors = PF_TILE_VECTORS,                                                                             \
      .transform_input = transform_input_##name,                                                              \
      .transform_gradient_window = transform_input_##name,                                                    \
      .transform_output_gradient = transform_output_gradient_##name,                                          \
      .transform_weight = transform_weight_##name,                                                            \
      .transform_turned_weight = transform_turned_weight_##name,                                              \
      .multiply = multiply,                                                                                   \
      .transform_output = transform_output_##name,                                                            \
      .transform_input_gradient = transform_output_##name,                                                    \
      .multiply_transposed = multiply_transposed,                                                             \
      .transform_weight_gradient = transform_weight_gradient_##name,                                          \
  };                                                                                                          \
  for (int32_t p = 0; p < kernels->table.points; ++p) kernels->table.weight_of[p] = (uint8_t)p;
#define PF_WINOGRAD_ENTER_PHASE(height, width) \
  PF_WINOGRAD_ENTER(winograd_phase[height - 1][width - 1], height##width, (2 * height - 1), (2 * width - 1), 9)
#define PF_WINOGRAD_ENTER_STRIDED(table, height, width, filter, filter_weights, kernel_taps)                  \
  kernels->table = (pf_winograd_kernels){                                                                     \
      .points = strided_points(height) * strided_points(width),                                               \
      .weights = filter_weights,                                                                              \
      .taps = kernel_taps,                                                                                    \
      .rows = PF_TILE_ROWS,                                                                                   \
      .vectors = PF_TILE_VECTORS,                                                                             \
      .transform_input = transform_input_strided_##height##width,                                             \
      .transform_gradient_window = transform_gradient_window_strided_##height##width,                         \
      .transform_weight = transform_weight_##filter,                                                          \
      .transform_turned_weight = transform_turned_weight_##filter,                                            \
      .multiply = multiply,                                                                                   \
      .transform_output = transform_output_strided_##height##width,                                           \
      .transform_input_gradient = transform_input_gradient_strided_##height##width,                           \
  };                                                                                                          \
  assign_weights(height, width, &kernels->table);

static void fill_winograd(pf_kernels *kernels) {
  PF_WINOGRAD_ENTER(winograd_2, 2, 4, 4, 9)
  PF_WINOGRAD_ENTER(winograd_6[0][0], kernel_13, 1, 6, 3)
  PF_WINOGRAD_ENTER(winograd_6[0][1], kernel_15, 1, 6, 5)
  PF_WINOGRAD_ENTER(winograd_6[1][0], kernel_33, 6, 6, 9)
  PF_WINOGRAD_ENTER(winograd_6[1][1], kernel_35, 6, 6, 15)
  PF_WINOGRAD_ENTER(winograd_6[2][0], kernel_53, 6, 6, 15)
  PF_WINOGRAD_ENTER(winograd_6[2][1], kernel_55, 6, 6, 25)
  PF_EACH_PHASE(PF_WINOGRAD_ENTER_PHASE)
  PF_WINOGRAD_ENTER_STRIDED(winograd_strided[0][0], 4, 4, strided, 36, 9)
  PF_WINOGRAD_ENTER_STRIDED(winograd_strided[0][1], 4, 3, strided, 36, 9)
  PF_WINOGRAD_ENTER_STRIDED(winograd_strided[1][0], 3, 4, strided, 36, 9)
  PF_WINOGRAD_ENTER_STRIDED(winograd_strided[1][1], 3, 3, strided, 36, 9)
  PF_WINOGRAD_ENTER_STRIDED(winograd_strided_line[0], 1, 4, strided_line, 6, 3)
  PF_WINOGRAD_ENTER_STRIDED(winograd_strided_line[1], 1, 3, strided_line, 6, 3)
}

#undef PF_WINOGRAD_ENTER
#undef PF_WINOGRAD_ENTER_PHASE
#undef PF_WINOGRAD_ENTER_STRIDED
#undef PF_EACH_PHASE
#undef PF_EACH_STRIDED
