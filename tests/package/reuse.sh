#!/bin/sh
# In place of compiling what another build folder has compiled: copies the object from there. package_test.cmake compares
# the commands. usage (as a compiler launcher): KVASS_OBJECTS=BUILD reuse.sh COMPILER ARGUMENTS...
object=
dependencies=
previous=
for argument; do
  case $previous in
    -o) object=$argument ;;
    -MF) dependencies=$argument ;;
  esac
  previous=$argument
done
compiled=$KVASS_OBJECTS/${object#_deps/kvass-build/}
if [ "$object" != "${object#_deps/kvass-build/}" ] && [ -f "$compiled" ]; then
  cp "$compiled" "$object" && echo "$object:" >"$dependencies"
else
  exec "$@"
fi
