# The CUDA backend for real devices: moezoo_cuda_nvcc, machine code for sm_80 and sm_90 and PTX for what comes later.
# AUTO builds it where a working nvcc is found, as proof that the sources compile and link; nothing else depends on it.
set(MOEZOO_CUDA AUTO CACHE STRING "build the CUDA backend with nvcc: AUTO, ON or OFF")
set_property(CACHE MOEZOO_CUDA PROPERTY STRINGS AUTO ON OFF)
if(NOT MOEZOO_CUDA MATCHES "^(AUTO|ON|OFF)$")
    message(FATAL_ERROR "MOEZOO_CUDA is ${MOEZOO_CUDA}, expected AUTO, ON or OFF")
endif()
if(MOEZOO_CUDA STREQUAL OFF)
    return()
endif()
if(MOEZOO_SANITIZE OR MOEZOO_FUZZ)
    # CUDA's driver and the sanitizers claim the same addresses; the simulator is what sanitizers watch.
    if(MOEZOO_CUDA STREQUAL ON)
        message(FATAL_ERROR "MOEZOO_CUDA=ON does not go together with MOEZOO_SANITIZE or MOEZOO_FUZZ")
    endif()
    return()
endif()

if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 80-real 90)
endif()
if(NOT DEFINED CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
    find_program(MOEZOO_NVCC nvcc HINTS ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES bin)
    if(MOEZOO_NVCC)
        set(ENV{CUDACXX} ${MOEZOO_NVCC}) # not CMAKE_CUDA_COMPILER, which check_language would take untried
    endif()
endif()
include(CheckLanguage)
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
    if(MOEZOO_CUDA STREQUAL ON)
        message(FATAL_ERROR "MOEZOO_CUDA=ON, but no working nvcc was found")
    endif()
    return()
endif()
enable_language(CUDA)
set(CMAKE_CUDA_STANDARD 17)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)

file(GLOB cuda_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/core/ops/cuda/*.cu)
add_library(moezoo_cuda_nvcc STATIC ${cuda_sources})
# Not through moezoo_flags, whose options are for the host compiler alone.
target_include_directories(moezoo_cuda_nvcc PRIVATE ${PROJECT_SOURCE_DIR})
target_compile_options(moezoo_cuda_nvcc PRIVATE
    -Xcompiler=-Wall,-Wextra,-Wshadow,-Wconversion,-Wno-sign-conversion
    $<$<BOOL:${MOEZOO_WERROR}>:-Werror=all-warnings>)
