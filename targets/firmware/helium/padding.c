/* The same bytes in each of `columns` pixels. */
static void helium_padding(int8_t value, int8_t *to, int32_t to_step, int32_t bytes, int32_t columns) {
    for (int32_t column = 0; column < columns; column++, to += to_step)
        for (int32_t byte = 0; byte < bytes; byte++) to[byte] = value;
}
