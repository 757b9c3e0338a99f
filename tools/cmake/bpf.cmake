# ptrig_bpf_skeleton(NAME [FOLDER]): FOLDER/NAME.bpf.c -> NAME.bpf.o -> FOLDER/NAME.skel.h in the build directory (bpf). The object is the same
# wherever the source and the build directory are: no path of either is in it, and clang finds no source to quote.
find_program(CLANG NAMES clang clang-14 clang-16 clang-19 REQUIRED)
find_program(LLVM_STRIP NAMES llvm-strip llvm-strip-14 llvm-strip-16 llvm-strip-19 REQUIRED)
find_program(BPFTOOL NAMES bpftool PATHS /usr/sbin /sbin REQUIRED)
execute_process(COMMAND ${CMAKE_C_COMPILER} -print-multiarch OUTPUT_VARIABLE PTRIG_MULTIARCH OUTPUT_STRIP_TRAILING_WHITESPACE)

function(ptrig_bpf_skeleton name)
  set(folder bpf)
  if(ARGC GREATER 1)
    set(folder ${ARGV1})
  endif()
  set(source ${CMAKE_SOURCE_DIR}/${folder}/${name}.bpf.c)
  file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/${folder})
  set(object ${CMAKE_BINARY_DIR}/${folder}/${name}.bpf.o)
  set(skeleton ${CMAKE_BINARY_DIR}/${folder}/${name}.skel.h)
  file(GLOB headers CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/bpf/*.h ${CMAKE_SOURCE_DIR}/include/ptrig/*.h)
  add_custom_command(
    OUTPUT ${skeleton}
    COMMAND ${CLANG} -g -O2 -target bpf -mcpu=v3 -D__TARGET_ARCH_x86 -Wall -Wextra -Werror -Wenum-conversion
            -Wno-unused-function -Wno-unused-parameter -I${CMAKE_SOURCE_DIR}/include -I${CMAKE_SOURCE_DIR}/bpf -I/usr/include/${PTRIG_MULTIARCH}
            -fdebug-prefix-map=${CMAKE_SOURCE_DIR}=. -ffile-prefix-map=${CMAKE_SOURCE_DIR}=. -fdebug-compilation-dir=.
            -c ${source} -o ${object}
    COMMAND ${LLVM_STRIP} -g ${object}
    COMMAND ${BPFTOOL} gen skeleton ${object} name ptrig_${name}_bpf > ${skeleton}
    WORKING_DIRECTORY ${CMAKE_BINARY_DIR}/${folder}
    DEPENDS ${source} ${headers}
    COMMENT "BPF ${name}"
    VERBATIM)
  add_custom_target(ptrig_bpf_${name} DEPENDS ${skeleton})
endfunction()
