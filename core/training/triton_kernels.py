"""The kernels of ``triton_step``: masks and signs as bits, products in bfloat16, no gradient in memory.

A layer's product runs on signs times masks, -1, 0 or 1, which are unpacked in registers and exact in
bfloat16; the constant of the layer multiplies the sum afterwards (paper, section 2: weights are +c or -c).
Pixels, 0 to 255, are exact too, so the first layer sums integers; gain and offset of the pixels follow:

    sum_i w_i (gain p_i + offset) = gain sum_i w_i p_i + offset sum_i w_i

Other operands are float32 numbers as two bfloat16 parts (PARTS = 2: 16 bits of each, an error of at most
2^-17 of the number) or as one (PARTS = 1). Sums are float32.

Letters: K tasks, B images of a batch, I and O a layer's inputs and outputs, W words of 32 bits in a row of
a mask, ceil(I / 32). Every kernel has one tile of one task per program: tiles on axis 0, tasks on axis 1.
PRODUCT is the dtype that ``tl.dot`` gets: bfloat16, and float32 in Triton's interpreter, which cannot
multiply bfloat16; the numbers are the same, as they are rounded to bfloat16 in both.
"""

import triton
import triton.language as tl


@triton.jit
def _rounded(x, PRODUCT: tl.constexpr):
    """Round float32 to the nearest bfloat16, ties to even; return it as PRODUCT."""
    if tl.bfloat16 == PRODUCT:
        rounded = x.to(tl.bfloat16)
    else:
        bits = x.to(tl.int32, bitcast=True)  # the interpreter's own conversion cuts bits off
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & -0x10000
        rounded = bits.to(tl.float32, bitcast=True)
    return rounded


@triton.jit
def _store(place, value, ok, PRODUCT: tl.constexpr):
    """Store float32 values, rounded if the memory is bfloat16."""
    if place.dtype.element_ty == tl.bfloat16:
        tl.store(place, _rounded(value, PRODUCT).to(tl.bfloat16), mask=ok)
    else:
        tl.store(place, value, mask=ok)


@triton.jit
def _kept_signs(words, signs, o, i, ok, WORDS: tl.constexpr, PRODUCT: tl.constexpr):
    """Return sign * mask as PRODUCT [TILE_O, TILE_I]. words, signs: int32 [O, W], of one task and of all."""
    place = o[:, None] * WORDS + i[None, :] // 32  # 32 threads read one word, which is one access
    shift = i[None, :] % 32
    kept = (tl.load(words + place, mask=ok, other=0) >> shift) & 1
    positive = (tl.load(signs + place, mask=ok, other=0) >> shift) & 1
    return (kept * (2 * positive - 1)).to(tl.float32).to(PRODUCT)


@triton.jit
def _packed(kept, TILE_O: tl.constexpr, TILE_I: tl.constexpr):
    """Pack a tile of bits into words, int32 [TILE_O, TILE_I / 32], lowest bit first."""
    bits = tl.reshape(kept.to(tl.int32), (TILE_O, TILE_I // 32, 32))
    return tl.sum(
        bits << tl.arange(0, 32)[None, None, :], axis=2
    )  # no two share a bit, so the sum is their union


@triton.jit
def _rmsprop_direction(square, g, ok, smoothing, rest, eps, PRODUCT: tl.constexpr):
    """Update the mean square of the gradient in memory; return the gradient over its root."""
    mean = tl.load(square, mask=ok, other=0.0).to(tl.float32) * smoothing + g * g * rest
    _store(square, mean, ok, PRODUCT)
    return tl.div_rn(g, tl.sqrt_rn(mean) + eps)


@triton.jit
def _adam_move(first, second, scales, g, ok, beta1, rest1, beta2, rest2, eps, PRODUCT: tl.constexpr):
    """Update both moments in memory; return what to subtract from the scores."""
    mean = tl.load(first, mask=ok, other=0.0).to(tl.float32) * beta1 + g * rest1
    square = tl.load(second, mask=ok, other=0.0).to(tl.float32) * beta2 + g * g * rest2
    _store(first, mean, ok, PRODUCT)
    _store(second, square, ok, PRODUCT)
    root = tl.div_rn(tl.sqrt_rn(square), tl.load(scales + 1))
    return tl.div_rn(mean, root + eps) * tl.load(scales)


@triton.jit
def gather(
    images,
    index,
    rows,
    x,
    NUM_PIXELS: tl.constexpr,
    BATCH: tl.constexpr,
    TILE_B: tl.constexpr,
    TILE_I: tl.constexpr,
):
    """Write the pixels of a batch to ``x``, uint8 [K, B, D], as each task sees them.

    images: uint8 [N, D]. index: int32 [K, D], a pixel for each input; D reads 0. rows: int32 [K, B].
    """
    k = tl.program_id(1).to(tl.int64)
    b = tl.program_id(0) * TILE_B + tl.arange(0, TILE_B)
    row = tl.load(rows + k * BATCH + b, mask=b < BATCH, other=0).to(tl.int64)
    for start in range(0, NUM_PIXELS, TILE_I):
        d = start + tl.arange(0, TILE_I)
        pixel = tl.load(index + k * NUM_PIXELS + d, mask=d < NUM_PIXELS, other=NUM_PIXELS)
        is_read = (b[:, None] < BATCH) & (pixel[None, :] < NUM_PIXELS)
        value = tl.load(images + row[:, None] * NUM_PIXELS + pixel[None, :], mask=is_read, other=0)
        ok = (b[:, None] < BATCH) & (d[None, :] < NUM_PIXELS)
        tl.store(x + (k * BATCH + b[:, None]) * NUM_PIXELS + d[None, :], value, mask=ok)


@triton.jit
def forward(
    hidden,
    words,
    signs,
    out,
    constant,
    pixel_gain,
    pixel_offset,
    BATCH: tl.constexpr,
    INPUTS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    WORDS: tl.constexpr,
    PIXELS: tl.constexpr,
    PARTS: tl.constexpr,
    RELU: tl.constexpr,
    PRODUCT: tl.constexpr,
    TILE_B: tl.constexpr,
    TILE_O: tl.constexpr,
    TILE_I: tl.constexpr,
):
    """Write a layer's output [K, B, O]: constant * hidden @ (signs * mask)^T, with a relu if RELU.

    hidden: [K, B, I], pixels (uint8) if PIXELS. words: int32 [K, O, W]. signs: int32 [O, W].
    """
    k = tl.program_id(1).to(tl.int64)
    num_columns: tl.constexpr = (OUTPUTS + TILE_O - 1) // TILE_O
    b = tl.program_id(0) // num_columns * TILE_B + tl.arange(0, TILE_B)
    o = tl.program_id(0) % num_columns * TILE_O + tl.arange(0, TILE_O)
    hidden += k * BATCH * INPUTS
    words += k * OUTPUTS * WORDS
    acc = tl.zeros((TILE_B, TILE_O), dtype=tl.float32)
    weight_sum = tl.zeros((TILE_O,), dtype=tl.float32)
    for start in range(0, INPUTS, TILE_I):
        i = start + tl.arange(0, TILE_I)
        w = _kept_signs(words, signs, o, i, (o[:, None] < OUTPUTS) & (i[None, :] < INPUTS), WORDS, PRODUCT)
        ok = (b[:, None] < BATCH) & (i[None, :] < INPUTS)
        x = tl.load(hidden + b[:, None] * INPUTS + i[None, :], mask=ok, other=0).to(tl.float32)
        high = _rounded(x, PRODUCT)
        if PARTS == 2 and not PIXELS:
            low = _rounded(x - high.to(tl.float32), PRODUCT)
            acc = tl.dot(low, tl.trans(w), acc)
        acc = tl.dot(high, tl.trans(w), acc)
        if PIXELS:
            weight_sum += tl.sum(w.to(tl.float32), axis=1)
    if PIXELS:
        acc = acc * pixel_gain + weight_sum[None, :] * pixel_offset
    acc = acc * constant
    if RELU:
        acc = tl.maximum(acc, 0.0)
    ok = (b[:, None] < BATCH) & (o[None, :] < OUTPUTS)
    _store(out + k * BATCH * OUTPUTS + b[:, None] * OUTPUTS + o[None, :], acc, ok, PRODUCT)


@triton.jit
def loss_and_delta(
    logits,
    labels,
    rows,
    delta,
    losses,
    smallest,
    BATCH: tl.constexpr,
    OUTPUTS: tl.constexpr,
    PRODUCT: tl.constexpr,
    TILE_B: tl.constexpr,
    TILE_O: tl.constexpr,
):
    """Write dL/dlogit [K, B, O] and each image's cross-entropy (nats), float32 [K, B].

    logits: float32 [K, B, O]; a tile holds whole rows. labels: int64 [N]. rows: int32 [K, B]. smallest:
    lower bound of a probability before its logarithm is taken.
    """
    k = tl.program_id(1).to(tl.int64)
    b = tl.program_id(0) * TILE_B + tl.arange(0, TILE_B)
    o = tl.arange(0, TILE_O)
    ok = (b[:, None] < BATCH) & (o[None, :] < OUTPUTS)
    place = (k * BATCH + b[:, None]) * OUTPUTS + o[None, :]
    z = tl.load(logits + place, mask=ok, other=-float("inf"))
    z = tl.where(b[:, None] < BATCH, z, 0.0)
    e = tl.exp(z - tl.max(z, axis=1)[:, None])
    p = tl.div_rn(e, tl.sum(e, axis=1)[:, None])
    row = tl.load(rows + k * BATCH + b, mask=b < BATCH, other=0).to(tl.int64)
    is_label = o[None, :] == tl.load(labels + row)[:, None]
    right = tl.sum(tl.where(is_label, p, 0.0), axis=1)
    tl.store(losses + k * BATCH + b, -tl.log(tl.maximum(right, smallest)), mask=b < BATCH)
    _store(delta + place, tl.div_rn(p - is_label.to(tl.float32), BATCH * 1.0), ok, PRODUCT)


@triton.jit
def backward(
    delta,
    words,
    signs,
    hidden,
    out,
    constant,
    BATCH: tl.constexpr,
    INPUTS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    WORDS: tl.constexpr,
    PARTS: tl.constexpr,
    PRODUCT: tl.constexpr,
    TILE_B: tl.constexpr,
    TILE_O: tl.constexpr,
    TILE_I: tl.constexpr,
):
    """Write dL/d(output of the layer below) [K, B, I], 0 where its relu was inactive.

    delta: of this layer [K, B, O]. hidden: this layer's input [K, B, I].
    """
    k = tl.program_id(1).to(tl.int64)
    num_columns: tl.constexpr = (INPUTS + TILE_I - 1) // TILE_I
    b = tl.program_id(0) // num_columns * TILE_B + tl.arange(0, TILE_B)
    i = tl.program_id(0) % num_columns * TILE_I + tl.arange(0, TILE_I)
    delta += k * BATCH * OUTPUTS
    words += k * OUTPUTS * WORDS
    acc = tl.zeros((TILE_B, TILE_I), dtype=tl.float32)
    for start in range(0, OUTPUTS, TILE_O):
        o = start + tl.arange(0, TILE_O)
        w = _kept_signs(words, signs, o, i, (o[:, None] < OUTPUTS) & (i[None, :] < INPUTS), WORDS, PRODUCT)
        ok = (b[:, None] < BATCH) & (o[None, :] < OUTPUTS)
        d = tl.load(delta + b[:, None] * OUTPUTS + o[None, :], mask=ok, other=0).to(tl.float32)
        high = _rounded(d, PRODUCT)
        if PARTS == 2:
            acc = tl.dot(_rounded(d - high.to(tl.float32), PRODUCT), w, acc)
        acc = tl.dot(high, w, acc)
    ok = (b[:, None] < BATCH) & (i[None, :] < INPUTS)
    place = k * BATCH * INPUTS + b[:, None] * INPUTS + i[None, :]
    active = tl.load(hidden + place, mask=ok, other=0).to(tl.float32) > 0
    _store(out + place, tl.where(active, acc * constant, 0.0), ok, PRODUCT)


@triton.jit
def update(
    delta,
    hidden,
    signs,
    scores,
    first,
    second,
    words,
    scales,
    constant,
    pixel_gain,
    pixel_offset,
    lr,
    decay,
    momentum,
    rate1,
    rest1,
    rate2,
    rest2,
    eps,
    BATCH: tl.constexpr,
    INPUTS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    WORDS: tl.constexpr,
    PIXELS: tl.constexpr,
    PARTS: tl.constexpr,
    KIND: tl.constexpr,
    DECAY: tl.constexpr,
    MOMENTUM: tl.constexpr,
    PRODUCT: tl.constexpr,
    TILE_B: tl.constexpr,
    TILE_O: tl.constexpr,
    TILE_I: tl.constexpr,
):
    """Compute a tile of the weight gradient and update scores, state and mask with it, all in place.

    delta: [K, B, O]. hidden: [K, B, I], pixels (uint8) if PIXELS. scores: float32 [K, O, I]. first, second:
    the optimizer's buffers, shaped like them. words: int32 [K, O, W], written. scales: float32 [2], see
    ``adam_scales``. rate1, rest1: smoothing or beta1, and 1 minus it; rate2, rest2: beta2 likewise. Each
    operation is rounded once and in the order of ``optimizers``.
    """
    k = tl.program_id(1).to(tl.int64)
    num_columns: tl.constexpr = (INPUTS + TILE_I - 1) // TILE_I
    o = tl.program_id(0) // num_columns * TILE_O + tl.arange(0, TILE_O)
    column = tl.program_id(0) % num_columns
    i = column * TILE_I + tl.arange(0, TILE_I)
    delta += k * BATCH * OUTPUTS
    hidden += k * BATCH * INPUTS
    acc = tl.zeros((TILE_O, TILE_I), dtype=tl.float32)
    delta_sum = tl.zeros((TILE_O,), dtype=tl.float32)
    for start in range(0, BATCH, TILE_B):
        b = start + tl.arange(0, TILE_B)
        ok = (b[:, None] < BATCH) & (o[None, :] < OUTPUTS)
        d = tl.load(delta + b[:, None] * OUTPUTS + o[None, :], mask=ok, other=0).to(tl.float32)
        ok = (b[:, None] < BATCH) & (i[None, :] < INPUTS)
        x = tl.load(hidden + b[:, None] * INPUTS + i[None, :], mask=ok, other=0).to(tl.float32)
        d_high, x_high = _rounded(d, PRODUCT), _rounded(x, PRODUCT)
        if PARTS == 2:
            d_low = _rounded(d - d_high.to(tl.float32), PRODUCT)
            acc = tl.dot(tl.trans(d_low), x_high, acc)
            if not PIXELS:
                acc = tl.dot(tl.trans(d_high), _rounded(x - x_high.to(tl.float32), PRODUCT), acc)
        acc = tl.dot(tl.trans(d_high), x_high, acc)
        if PIXELS:
            delta_sum += tl.sum(d, axis=0)
    if PIXELS:
        acc = acc * pixel_gain + delta_sum[:, None] * pixel_offset
    ok = (o[:, None] < OUTPUTS) & (i[None, :] < INPUTS)
    positive = (
        tl.load(signs + o[:, None] * WORDS + i[None, :] // 32, mask=ok, other=0) >> (i[None, :] % 32)
    ) & 1
    g = acc * tl.where(positive == 1, constant, -constant)
    place = k * OUTPUTS * INPUTS + o[:, None] * INPUTS + i[None, :]
    s = tl.load(scores + place, mask=ok, other=0.0)
    if DECAY:
        g = g + s * decay
    if KIND == "adam":
        move = _adam_move(
            first + place, second + place, scales, g, ok, rate1, rest1, rate2, rest2, eps, PRODUCT
        )
    else:
        velocity = first + place
        if KIND == "rmsprop":
            g = _rmsprop_direction(first + place, g, ok, rate1, rest1, eps, PRODUCT)
            velocity = second + place
        if MOMENTUM:
            g = tl.load(velocity, mask=ok, other=0.0).to(tl.float32) * momentum + g
            _store(velocity, g, ok, PRODUCT)
        move = g * lr
    s = s - move
    tl.store(scores + place, s, mask=ok)
    packed = _packed((s >= 0) & ok, TILE_O, TILE_I)
    word = column * (TILE_I // 32) + tl.arange(0, TILE_I // 32)
    ok = (o[:, None] < OUTPUTS) & (word[None, :] < WORDS)
    tl.store(words + k * OUTPUTS * WORDS + o[:, None] * WORDS + word[None, :], packed, mask=ok)
