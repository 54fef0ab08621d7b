# The installed library: one libaster.so with llama.cpp inside, the headers of include/aster/, and
# find_package(aster) giving aster::aster. The target is aster_shared, because Ninja takes "aster" for
# the program.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/libaster.cc CONTENT "// libaster.so is made of the static libraries.\n")
add_library(aster_shared SHARED ${PROJECT_BINARY_DIR}/libaster.cc)
add_library(aster::aster ALIAS aster_shared)
set(map ${PROJECT_SOURCE_DIR}/cmake/aster.map)
target_link_libraries(aster_shared PRIVATE aster_engine)
target_link_options(aster_shared PRIVATE LINKER:--version-script=${map} LINKER:--whole-archive
  $<TARGET_FILE:aster_engine> $<TARGET_FILE:aster_plan> $<TARGET_FILE:aster_base> LINKER:--no-whole-archive)
target_include_directories(aster_shared INTERFACE
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_compile_features(aster_shared INTERFACE cxx_std_20)
set_target_properties(aster_shared PROPERTIES OUTPUT_NAME aster EXPORT_NAME aster LINK_DEPENDS ${map}
  VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})

install(TARGETS aster_shared EXPORT aster-targets)
install(TARGETS aster_cli)
install(DIRECTORY include/aster DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES LICENSE THIRD_PARTY.md DESTINATION ${CMAKE_INSTALL_DOCDIR})

set(config ${CMAKE_INSTALL_LIBDIR}/cmake/aster)
install(EXPORT aster-targets NAMESPACE aster:: DESTINATION ${config})
file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/aster-config.cmake
  CONTENT "include(\"\${CMAKE_CURRENT_LIST_DIR}/aster-targets.cmake\")\n" @ONLY)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/aster-config-version.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/aster-config.cmake ${PROJECT_BINARY_DIR}/aster-config-version.cmake
  DESTINATION ${config})
