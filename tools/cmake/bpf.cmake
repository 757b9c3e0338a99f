# ptrig_bpf_skeleton(NAME [FOLDER folder] [CLANG clang] [AS as]): FOLDER/NAME.bpf.c -> AS.bpf.o -> FOLDER/AS.skel.h in the
# build directory, by default of bpf/ and as NAME. The object is the same wherever the source and the build directory
# are: no path of either is in it, and clang finds no source to quote.
find_program(CLANG NAMES clang clang-14 clang-16 clang-19 REQUIRED)
find_program(LLVM_STRIP NAMES llvm-strip llvm-strip-14 llvm-strip-16 llvm-strip-19 REQUIRED)
find_program(BPFTOOL NAMES bpftool PATHS /usr/sbin /sbin REQUIRED)
execute_process(COMMAND ${CMAKE_C_COMPILER} -print-multiarch OUTPUT_VARIABLE PTRIG_MULTIARCH OUTPUT_STRIP_TRAILING_WHITESPACE)

function(ptrig_bpf_skeleton name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "FOLDER;CLANG;AS" "")
  set(folder bpf)
  if(arg_FOLDER)
    set(folder ${arg_FOLDER})
  endif()
  set(clang ${CLANG})
  if(arg_CLANG)
    set(clang ${arg_CLANG})
  endif()
  set(as ${name})
  if(arg_AS)
    set(as ${arg_AS})
  endif()
  set(source ${CMAKE_SOURCE_DIR}/${folder}/${name}.bpf.c)
  file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/${folder})
  set(object ${CMAKE_BINARY_DIR}/${folder}/${as}.bpf.o)
  set(skeleton ${CMAKE_BINARY_DIR}/${folder}/${as}.skel.h)
  file(GLOB headers CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/bpf/*.h ${CMAKE_SOURCE_DIR}/include/ptrig/*.h)
  add_custom_command(
    OUTPUT ${skeleton}
    COMMAND ${clang} -g -O2 -target bpf -mcpu=v3 -D__TARGET_ARCH_x86 -Wall -Wextra -Werror -Wenum-conversion
            -Wno-unused-function -Wno-unused-parameter -I${CMAKE_SOURCE_DIR}/include -I${CMAKE_SOURCE_DIR}/bpf -I/usr/include/${PTRIG_MULTIARCH}
            -fdebug-prefix-map=${CMAKE_SOURCE_DIR}=. -ffile-prefix-map=${CMAKE_SOURCE_DIR}=. -fdebug-compilation-dir=.
            -c ${source} -o ${object}
    COMMAND ${LLVM_STRIP} -g ${object}
    COMMAND ${BPFTOOL} gen skeleton ${object} name ptrig_${as}_bpf > ${skeleton}
    WORKING_DIRECTORY ${CMAKE_BINARY_DIR}/${folder}
    DEPENDS ${source} ${headers}
    COMMENT "BPF ${as}"
    VERBATIM)
  add_custom_target(ptrig_bpf_${as} DEPENDS ${skeleton})
endfunction()
