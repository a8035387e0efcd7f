"""Windows over images of any size, and how their predictions become one."""
