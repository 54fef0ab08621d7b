# Fails when an ISA object exports anything but its one table (and what sanitizers note about it).
execute_process(COMMAND nm -C --defined-only --extern-only ${OBJECT} OUTPUT_VARIABLE out
                RESULT_VARIABLE rc)
string(REGEX MATCHALL "[^\n]+" lines "${out}")
list(FILTER lines EXCLUDE REGEX "__odr_asan")
list(LENGTH lines count)
if(NOT rc EQUAL 0 OR NOT count EQUAL 1)
  message(FATAL_ERROR "${OBJECT} must export one symbol, exports ${count}:\n${out}")
endif()
