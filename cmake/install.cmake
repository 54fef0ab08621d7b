# The installed library: one libaster.so with llama.cpp inside, the headers of include/aster/, and
# find_package(aster) giving aster::aster.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/libaster.cc CONTENT "// libaster.so is made of the static libraries.\n")
add_library(aster SHARED ${PROJECT_BINARY_DIR}/libaster.cc)
add_library(aster::aster ALIAS aster)
set(map ${PROJECT_SOURCE_DIR}/cmake/aster.map)
target_link_libraries(aster PRIVATE aster_engine)
target_link_options(aster PRIVATE LINKER:--version-script=${map} LINKER:--whole-archive
  $<TARGET_FILE:aster_engine> $<TARGET_FILE:aster_plan> $<TARGET_FILE:aster_base> LINKER:--no-whole-archive)
target_include_directories(aster INTERFACE
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_compile_features(aster INTERFACE cxx_std_20)
set_target_properties(aster PROPERTIES VERSION ${PROJECT_VERSION} LINK_DEPENDS ${map}
  SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})

install(TARGETS aster EXPORT aster-targets)
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
