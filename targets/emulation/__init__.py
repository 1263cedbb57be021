"""The plugin for QEMU that counts instructions, in C."""
